//! How long a version's runs take, as far as it decides where they happen.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::inline::LONGEST;

/// The time of a version's runs, smoothed, and whether they are short enough for the threads that read requests.
#[derive(Debug)]
pub(super) struct Pace {
    /// Nanoseconds.
    smoothed: AtomicU64,
    is_short: AtomicBool,
}

/// How much of the average a run makes.
const WEIGHT: u64 = 16;

/// No run counts for more: one that the system interrupted says nothing of the model.
const OUTLIER: u64 = 2;

impl Pace {
    pub(super) fn new() -> Self {
        Pace { smoothed: AtomicU64::new(0), is_short: AtomicBool::new(true) }
    }

    pub(super) fn is_short(&self) -> bool {
        self.is_short.load(Relaxed)
    }

    /// A run took so long. What has become too long counts as short again at half the time, so that it does not go back and
    /// forth. Threads that tell at once may lose a run, which does no harm.
    pub(super) fn ran(&self, took: Duration) {
        let longest = LONGEST.as_nanos() as u64;
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).min(OUTLIER * longest);
        let before = self.smoothed.load(Relaxed);
        let smoothed = before - before / WEIGHT + took / WEIGHT;
        self.smoothed.store(smoothed, Relaxed);
        let was_short = self.is_short();
        let is_short = smoothed <= if was_short { longest } else { longest / 2 };
        if is_short != was_short {
            self.is_short.store(is_short, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_become_long_move_and_come_back() {
        let pace = Pace::new();
        let runs = |took: Duration, times: usize| (0..times).for_each(|_| pace.ran(took));
        runs(LONGEST / 4, 1000);
        assert!(pace.is_short());
        runs(Duration::from_secs(1), 2);
        assert!(pace.is_short(), "two that were interrupted");
        runs(LONGEST * 2, 100);
        assert!(!pace.is_short());
        runs(LONGEST * 3 / 4, 1000);
        assert!(!pace.is_short(), "nearly short is not short yet");
        runs(LONGEST / 4, 100);
        assert!(pace.is_short());
    }
}
