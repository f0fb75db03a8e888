//! The run time of a batcher on the compute threads, smoothed, by which the line for compute slots goes.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The part of the average that one run makes.
const WEIGHT: u64 = 8;

/// An exponentially weighted moving average of run times, in nanoseconds; 0 before the first run.
#[derive(Debug, Default)]
pub(super) struct RunTime(AtomicU64);

impl RunTime {
    /// A run took so long. Threads that report at once may lose a run, which does no harm.
    pub(super) fn ran(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        let before = self.0.load(Relaxed);
        let after = if before == 0 { took } else { before - before / WEIGHT + took / WEIGHT };
        self.0.store(after.max(1), Relaxed);
    }

    /// How long the next run is expected to take, once there was one.
    pub(super) fn expected(&self) -> Option<Duration> {
        Some(self.0.load(Relaxed)).filter(|time| *time > 0).map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_time_follows_the_runs() {
        let time = RunTime::default();
        assert_eq!(time.expected(), None);
        time.ran(Duration::from_millis(8));
        assert_eq!(time.expected(), Some(Duration::from_millis(8)));
        (0..100).for_each(|_| time.ran(Duration::from_millis(80)));
        assert!(time.expected().unwrap() > Duration::from_millis(79));
        time.ran(Duration::MAX);
        assert!(time.expected().unwrap() > Duration::from_secs(3600));
    }
}
