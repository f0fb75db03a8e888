//! The order of the pool's jobs. Pure: the time is an argument.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    time::{Duration, Instant},
};

/// Jobs of more bytes are large: they take a thread for more than some 10 ms.
const LARGE_BYTES: usize = 2 << 20;

/// Delay of a job behind one without bytes that comes at the same time, per byte. That is some five times as long as the job
/// takes: short ones pass long ones, and a long one is passed by those alone that come within so long after it.
const DELAY_PER_BYTE: Duration = Duration::from_nanos(50);

/// A job's size, which decides how many of its kind may run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    Small,
    Large,
}

/// Jobs that wait. Short ones go first, and none waits for ever.
pub(super) struct JobQueue<J> {
    small: BinaryHeap<Reverse<QueuedJob<J>>>,
    large: BinaryHeap<Reverse<QueuedJob<J>>>,
    /// Large jobs that may be started now.
    large_free: usize,
    pushed: u64,
}

struct QueuedJob<J> {
    due: Instant,
    /// Among those that are due at the same time the first goes first.
    number: u64,
    job: J,
}

impl<J> JobQueue<J> {
    /// A queue of which so many large jobs run at once at most.
    pub(super) fn new(max_large: usize) -> Self {
        JobQueue { small: BinaryHeap::new(), large: BinaryHeap::new(), large_free: max_large, pushed: 0 }
    }

    /// Adds a job of so many bytes.
    pub(super) fn push(&mut self, now: Instant, bytes: usize, job: J) {
        let delay = DELAY_PER_BYTE.saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX));
        let entry = Reverse(QueuedJob { due: now + delay, number: self.pushed, job });
        self.pushed += 1;
        if bytes > LARGE_BYTES { self.large.push(entry) } else { self.small.push(entry) }
    }

    /// The job that is started next, if one may be.
    pub(super) fn pop(&mut self) -> Option<(Size, J)> {
        let large = self.large.peek().filter(|_| self.large_free > 0);
        // Reversed: the greatest goes first.
        let takes_large = large.is_some_and(|large| self.small.peek().is_none_or(|small| large > small));
        let (size, heap) = if takes_large { (Size::Large, &mut self.large) } else { (Size::Small, &mut self.small) };
        let Reverse(QueuedJob { job, .. }) = heap.pop()?;
        self.large_free -= usize::from(takes_large);
        Some((size, job))
    }

    /// A large job has ended.
    pub(super) fn large_ended(&mut self) {
        self.large_free += 1;
    }
}

impl<J> QueuedJob<J> {
    fn key(&self) -> (Instant, u64) {
        (self.due, self.number)
    }
}

impl<J> PartialEq for QueuedJob<J> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<J> Eq for QueuedJob<J> {}

impl<J> PartialOrd for QueuedJob<J> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<J> Ord for QueuedJob<J> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_jobs_pass_slightly_older_long_jobs() {
        let (start, mut queue) = (Instant::now(), JobQueue::new(1));
        queue.push(start, 20 << 20, "long");
        queue.push(start + Duration::from_millis(500), 1 << 20, "soon");
        queue.push(start + Duration::from_secs(2), 1 << 20, "late");
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [(Size::Small, "soon"), (Size::Large, "long"), (Size::Small, "late")]);
    }

    #[test]
    fn queue_limits_concurrent_large_jobs() {
        let (now, mut queue) = (Instant::now(), JobQueue::new(2));
        (0..3).for_each(|number| queue.push(now, LARGE_BYTES + 1, number));
        queue.push(now + Duration::from_secs(1), 1, 3);
        assert_eq!([queue.pop(), queue.pop()], [Some((Size::Large, 0)), Some((Size::Large, 1))]);
        assert_eq!(queue.pop(), Some((Size::Small, 3)));
        assert_eq!(queue.pop(), None);
        queue.large_ended();
        assert_eq!(queue.pop(), Some((Size::Large, 2)));
    }

    proptest! {
        #[test]
        fn queue_pops_jobs_once_and_in_order_within_size(jobs in prop::collection::vec((0..5000u64, 0..5usize), 0..50)) {
            let (start, mut queue) = (Instant::now(), JobQueue::new(50));
            let mut at = start;
            for (index, (wait, megabytes)) in jobs.iter().enumerate() {
                at += Duration::from_millis(*wait);
                queue.push(at, megabytes << 20, (*megabytes, index));
            }
            let mut out: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|(_, job)| job).collect();
            for megabytes in 0..5 {
                prop_assert!(out.iter().filter(|job| job.0 == megabytes).is_sorted());
            }
            out.sort_by_key(|job| job.1);
            prop_assert!(out.iter().map(|job| job.1).eq(0..jobs.len()));
        }
    }
}
