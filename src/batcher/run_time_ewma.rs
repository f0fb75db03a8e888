//! Exponentially weighted moving averages of a version's run times: they decide where its runs happen, and in what order.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Time for which an I/O thread runs models before it reads again: connections wait meanwhile. A model whose batches take longer
/// does not run inline.
pub const MAX_INLINE_TIME: Duration = Duration::from_micros(100);

/// Weight of a new run on a compute thread: one part in so many of the average.
const COMPUTE_WEIGHT: u64 = 8;

/// Weight of a new run that may be inline: one part in so many of the average.
const INLINE_WEIGHT: u64 = 16;

/// Longest run that counts for an inline average, in multiples of [`MAX_INLINE_TIME`]: one that the system interrupted says
/// nothing of the model.
const MAX_INLINE_OUTLIER: u64 = 2;

/// Average of run times on the compute threads, in nanoseconds; 0 before the first run. The queue for compute slots goes by it.
#[derive(Debug, Default)]
pub(super) struct ComputeRunTime(AtomicU64);

impl ComputeRunTime {
    /// Adds a run. Threads that add at the same time may lose a run, which does no harm.
    pub(super) fn add(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        let before = self.0.load(Relaxed);
        let after = if before == 0 { took } else { before - before / COMPUTE_WEIGHT + took / COMPUTE_WEIGHT };
        self.0.store(after.max(1), Relaxed);
    }

    /// Time that the next run is expected to take, once there was one.
    pub(super) fn expected(&self) -> Option<Duration> {
        Some(self.0.load(Relaxed)).filter(|time| *time > 0).map(Duration::from_nanos)
    }
}

/// Average of the times of runs that are small enough to be inline, in nanoseconds, and the verdict on it.
#[derive(Debug)]
pub(super) struct InlineRunTime {
    average: AtomicU64,
    is_short: AtomicBool,
}

impl InlineRunTime {
    pub(super) fn new() -> Self {
        InlineRunTime { average: AtomicU64::new(0), is_short: AtomicBool::new(true) }
    }

    /// True if runs are short enough for the I/O threads.
    pub(super) fn is_short(&self) -> bool {
        self.is_short.load(Relaxed)
    }

    /// Adds a run. Runs that have become too long count as short again at half the time, so that they don't go back and forth.
    /// Threads that add at the same time may lose a run, which does no harm.
    pub(super) fn add(&self, took: Duration) {
        let longest = MAX_INLINE_TIME.as_nanos() as u64;
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).min(MAX_INLINE_OUTLIER * longest);
        let before = self.average.load(Relaxed);
        let average = before - before / INLINE_WEIGHT + took / INLINE_WEIGHT;
        self.average.store(average, Relaxed);
        let was_short = self.is_short();
        let is_short = average <= if was_short { longest } else { longest / 2 };
        if is_short != was_short {
            self.is_short.store(is_short, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compute_run_time_follows_the_runs() {
        let time = ComputeRunTime::default();
        assert_eq!(time.expected(), None);
        time.add(Duration::from_millis(8));
        assert_eq!(time.expected(), Some(Duration::from_millis(8)));
        (0..100).for_each(|_| time.add(Duration::from_millis(80)));
        assert!(time.expected().unwrap() > Duration::from_millis(79));
        time.add(Duration::MAX);
        assert!(time.expected().unwrap() > Duration::from_secs(3600));
    }

    #[test]
    fn inline_runs_move_when_long_and_return_when_short() {
        let time = InlineRunTime::new();
        let runs = |took: Duration, times: usize| (0..times).for_each(|_| time.add(took));
        runs(MAX_INLINE_TIME / 4, 1000);
        assert!(time.is_short());
        runs(Duration::from_secs(1), 2);
        assert!(time.is_short(), "two that were interrupted");
        runs(MAX_INLINE_TIME * 2, 100);
        assert!(!time.is_short());
        runs(MAX_INLINE_TIME * 3 / 4, 1000);
        assert!(!time.is_short(), "nearly short is not short yet");
        runs(MAX_INLINE_TIME / 4, 100);
        assert!(time.is_short());
    }
}
