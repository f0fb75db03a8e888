//! Snapshots of what several threads have counted.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{Rejection, RequestPhase, RequestTimer, VersionMetrics};
use crate::{
    error::{Code, Error},
    per_thread,
    traffic::Reason,
};

#[test]
fn snapshot_has_the_counts_of_all_threads() {
    let metrics = Arc::new(VersionMetrics::new());
    let start = |reason| RequestTimer::start(&metrics, reason, Instant::now());
    let begun = start(Reason::Pinned);
    thread::scope(|scope| {
        for number in 0..4 {
            let (metrics, start) = (&metrics, &start);
            scope.spawn(move || {
                per_thread::enter(number);
                start(Reason::Default).finish(Ok(()));
                start(Reason::Default).finish(Err(&Error::invalid("no")));
                drop(start(Reason::Default));
                metrics.rejected(Rejection::QueueFull);
                metrics.batch_ran(3);
                metrics.phase_took(RequestPhase::Run, Duration::from_millis(2), 5);
            });
        }
    });
    let snapshot = metrics.snapshot();
    assert_eq!((snapshot.succeeded, snapshot.in_flight, snapshot.rows), (4, 1, 12));
    assert_eq!([Code::InvalidArgument, Code::Cancelled].map(|code| snapshot.failed[code as usize]), [4, 4]);
    assert_eq!(snapshot.failed.iter().sum::<u64>(), 8);
    assert_eq!([Reason::Pinned, Reason::Default].map(|reason| snapshot.routed[reason as usize]), [1, 12]);
    assert_eq!(snapshot.rejected[Rejection::QueueFull as usize], 4);
    assert_eq!((snapshot.batch_rows.count(), snapshot.batch_rows.sum), (4, 12));
    assert_eq!(snapshot.request_duration.count(), 4);
    let run = snapshot.phase(RequestPhase::Run);
    assert_eq!((run.duration.sum, run.request_nanoseconds), (8_000_000, 40_000_000));
    let bucket = run.duration.bounds().iter().position(|bound| *bound == 2_500_000).unwrap();
    assert_eq!(run.duration.buckets[bucket], 4);

    // On another thread than it began on.
    thread::scope(|scope| {
        scope.spawn(|| {
            per_thread::enter(1);
            begun.finish(Ok(()));
        });
    });
    let later = metrics.snapshot();
    assert_eq!((later.succeeded, later.in_flight), (5, 0));
    assert_eq!((snapshot.succeeded, snapshot.in_flight), (4, 1), "a snapshot stays as it is");
}
