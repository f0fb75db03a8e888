//! Back-off of failed loads and lost versions, with the quarantine after too many losses. Pure: time is an argument.

use std::time::{Duration, Instant};

/// Losses in a row before a version is quarantined.
const MAX_LOSSES: u32 = 5;

/// Time without a loss after which a version has recovered: the next loss counts as its first.
const RECOVERED_AFTER: Duration = Duration::from_secs(600);

/// Schedule of the next retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retry {
    /// Earliest time of the retry.
    pub at: Instant,
    delay: Duration,
}

impl Retry {
    const FIRST_DELAY: Duration = Duration::from_secs(1);
    const MAX_DELAY: Duration = Duration::from_secs(300);

    /// The retry after a failure: each delay is twice the previous one, up to a limit.
    pub(super) fn after(previous: Option<Retry>, now: Instant) -> Self {
        let delay = previous.map_or(Self::FIRST_DELAY, |previous| (previous.delay * 2).min(Self::MAX_DELAY));
        Retry { at: now + delay, delay }
    }
}

/// Losses of a version in a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Losses {
    count: u32,
    last: Instant,
    retry: Retry,
}

impl Losses {
    /// The losses after one more.
    pub(super) fn after(previous: Option<Losses>, now: Instant) -> Self {
        let previous = previous.filter(|previous| now.saturating_duration_since(previous.last) < RECOVERED_AFTER);
        let retry = Retry::after(previous.map(|previous| previous.retry), now);
        Losses { count: previous.map_or(0, |previous| previous.count) + 1, last: now, retry }
    }

    /// The next load of the version; `None`: it is quarantined.
    pub(super) fn retry(self) -> Option<Retry> {
        (self.count < MAX_LOSSES).then_some(self.retry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_losses_quarantine_and_recovery_resets_the_count() {
        let (mut losses, mut now) = (None, Instant::now());
        for count in 1..=MAX_LOSSES {
            let after = Losses::after(losses, now);
            assert_eq!(after.retry().is_some(), count < MAX_LOSSES);
            losses = Some(after);
            now += RECOVERED_AFTER / 2;
        }
        let first = Losses::after(None, now).retry();
        assert_eq!(Losses::after(losses, now + RECOVERED_AFTER).count, 1);
        assert!(first.is_some_and(|retry| retry.at > now));
    }

    #[test]
    fn retries_back_off_to_a_limit() {
        let (mut retry, mut now) = (None, Instant::now());
        let mut delays = Vec::new();
        for _ in 0..10 {
            let next = Retry::after(retry, now);
            delays.push((next.at - now).as_secs());
            now = next.at;
            retry = Some(next);
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
    }
}
