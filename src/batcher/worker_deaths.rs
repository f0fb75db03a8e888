//! Deaths of a version's worker processes: a pause before each restart, and quarantine for a version whose workers die again and
//! again. Pure.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Number of deaths within [`DEATHS_WINDOW`] that ends in quarantine.
pub(super) const MAX_DEATHS: usize = 3;

/// Time for which a death counts.
pub(super) const DEATHS_WINDOW: Duration = Duration::from_secs(600);

/// Pause before the restart after the second death in a row; the first restart follows at once.
pub(super) const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Time after a death in which requests run one by one, so that the next one to end a worker ends no other's run.
const ALONE_FOR: Duration = Duration::from_secs(60);

/// The deaths of a version's workers.
#[derive(Default)]
pub(super) struct WorkerDeaths(Mutex<RecentDeaths>);

/// The deaths that count.
#[derive(Debug, Default)]
struct RecentDeaths(VecDeque<Instant>);

/// The time of a death: in a run, or between two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DiedIn {
    Run,
    Idle,
}

/// The consequence of a death.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RestartDecision {
    RestartAfter(Duration),
    Quarantine,
}

impl RecentDeaths {
    fn record(&mut self, now: Instant) -> RestartDecision {
        self.0.retain(|death| now.saturating_duration_since(*death) < DEATHS_WINDOW);
        self.0.push_back(now);
        match self.0.len() {
            1 => RestartDecision::RestartAfter(Duration::ZERO),
            count if count < MAX_DEATHS => RestartDecision::RestartAfter(RESTART_PAUSE),
            _ => RestartDecision::Quarantine,
        }
    }

    fn runs_alone(&self, now: Instant) -> bool {
        self.0.back().is_some_and(|death| now.saturating_duration_since(*death) < ALONE_FOR)
    }
}

impl WorkerDeaths {
    /// Records a death, which is now.
    pub(super) fn record(&self, now: Instant) -> RestartDecision {
        self.lock().record(now)
    }

    /// True if requests run one by one now.
    pub(super) fn runs_alone(&self, now: Instant) -> bool {
        self.lock().runs_alone(now)
    }

    fn lock(&self) -> MutexGuard<'_, RecentDeaths> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn repeated_deaths_quarantine_and_old_deaths_expire(
            pauses in prop::collection::vec(0..1_000u64, 1..20),
        ) {
            let (mut deaths, mut now) = (RecentDeaths::default(), Instant::now());
            let mut times = Vec::new();
            for pause in pauses {
                now += Duration::from_secs(pause);
                times.push(now);
                let counted = times.iter().filter(|time| now - **time < DEATHS_WINDOW).count();
                let expected = match counted {
                    1 => RestartDecision::RestartAfter(Duration::ZERO),
                    2 => RestartDecision::RestartAfter(RESTART_PAUSE),
                    _ => RestartDecision::Quarantine,
                };
                prop_assert_eq!(deaths.record(now), expected);
                prop_assert!(deaths.runs_alone(now) && !deaths.runs_alone(now + ALONE_FOR));
            }
        }
    }
}
