//! Deaths of a version's worker processes: each is restarted in place, and a version whose workers die again and again is
//! quarantined. The policy is pure.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::Batcher;
use crate::{engine::Instance, error::Lost};

/// Deaths within [`DEATHS_WINDOW`] that end in quarantine.
const MAX_DEATHS: usize = 3;

/// How long a death counts.
const DEATHS_WINDOW: Duration = Duration::from_secs(600);

/// Pause before the restart after the second death in a row; the first restart follows at once.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// How long after a death requests run one by one, so that the next one to end a worker ends no other's run.
const ALONE_FOR: Duration = Duration::from_secs(60);

/// Looks for an idle worker that has died, and the pause between two. A run that its death ends is over sooner.
const DEATH_LOOKS: usize = 50;
const DEATH_LOOK_PAUSE: Duration = Duration::from_millis(10);

/// The workers of a version.
pub(super) struct Workers {
    model: String,
    version: u64,
    deaths: Mutex<Deaths>,
}

/// The deaths that count.
#[derive(Debug, Default)]
struct Deaths(VecDeque<Instant>);

/// The moment of a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Died {
    InRun,
    Idle,
}

/// The consequence of a death.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    RestartAfter(Duration),
    Quarantine,
}

impl Deaths {
    fn record(&mut self, now: Instant) -> Verdict {
        self.0.retain(|death| now.saturating_duration_since(*death) < DEATHS_WINDOW);
        self.0.push_back(now);
        match self.0.len() {
            1 => Verdict::RestartAfter(Duration::ZERO),
            count if count < MAX_DEATHS => Verdict::RestartAfter(RESTART_PAUSE),
            _ => Verdict::Quarantine,
        }
    }

    fn runs_alone(&self, now: Instant) -> bool {
        self.0.back().is_some_and(|death| now.saturating_duration_since(*death) < ALONE_FOR)
    }
}

impl Workers {
    pub(super) fn new(model: &str, version: u64) -> Self {
        Workers { model: model.to_owned(), version, deaths: Mutex::default() }
    }

    /// Whether requests run one by one now.
    pub(super) fn runs_alone(&self, now: Instant) -> bool {
        self.deaths().runs_alone(now)
    }

    fn deaths(&self) -> MutexGuard<'_, Deaths> {
        self.deaths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batcher {
    /// Has workers restarted that die while they are idle. To be called once, before requests come. Those that die in a run are
    /// found out by the run.
    pub fn restart_idle_workers(self: &Arc<Self>) {
        for instance in self.shared.state().idle.iter_mut() {
            let batcher = Arc::downgrade(self);
            instance.notify_of_death(move || {
                if let Some(batcher) = batcher.upgrade() {
                    batcher.find_dead_worker();
                }
            });
        }
    }

    /// Restarts the idle worker that has died, on a thread of its own. One that was about to become idle is found a little
    /// later. One that died in a run is restarted by the thread of the run, and never found.
    fn find_dead_worker(self: Arc<Self>) {
        let find = move || {
            for _ in 0..DEATH_LOOKS {
                let found = self.shared.state().idle.take_if(Instance::is_worker_gone);
                if let Some((device, instance)) = found {
                    return self.restart_worker(device, instance, Died::Idle);
                }
                thread::sleep(DEATH_LOOK_PAUSE);
            }
        };
        if let Err(error) = thread::Builder::new().name("restart".into()).spawn(find) {
            tracing::warn!(%error, "worker process died, and no thread can be started: the next request restarts it");
        }
    }

    /// Restarts the worker of an instance, which has died, on a thread of its own: the instance comes back to the lane then, and
    /// requests wait for it. Where workers die again and again, the batcher is lost.
    pub(super) fn restart_worker(self: &Arc<Self>, device: usize, mut instance: Instance, died: Died) {
        let found = instance.death();
        // Whatever ended it from outside may have ended others at the same time, and says nothing of the model.
        let is_outside = died == Died::Idle && found.is_some_and(|death| !death.is_fault());
        let death = found.map(ToString::to_string).unwrap_or_default();
        let Workers { model, version, .. } = &self.workers;
        self.metrics.worker_died();
        let verdict = match is_outside {
            true => Verdict::RestartAfter(RESTART_PAUSE),
            false => self.workers.deaths().record(Instant::now()),
        };
        let pause = match verdict {
            Verdict::RestartAfter(pause) => pause,
            Verdict::Quarantine => {
                self.shared.state().idle.lose(device);
                let window = humantime::format_duration(DEATHS_WINDOW);
                let why = format!("its worker processes died {MAX_DEATHS} times within {window}: the last {death}");
                return self.lose(Lost::for_good(why));
            }
        };
        tracing::error!(model, version, restart_in = ?pause, "worker process died: it {death}");
        let batcher = self.clone();
        let restart = move || {
            thread::sleep(pause);
            let restarted = instance.restart();
            let mut state = batcher.shared.state();
            if let Err(failure) = restarted {
                state.idle.lose(device);
                drop(state);
                return batcher.lose(Lost::for_now(format!(
                    "its worker process {death}, and can't be restarted: {}",
                    failure.why
                )));
            }
            state.idle.put(device, instance);
            let waits = !state.queue.is_empty();
            state.scheduled += usize::from(waits);
            drop(state);
            let Workers { model, version, .. } = &batcher.workers;
            tracing::info!(model, version, "worker process restarted");
            if waits {
                batcher.schedule(super::Place::Compute);
            }
        };
        if let Err(error) = thread::Builder::new().name("restart".into()).spawn(restart) {
            self.shared.state().idle.lose(device);
            self.lose(Lost::for_now(format!(
                "its worker process died, and no thread can be started to restart it: {error}"
            )));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn deaths_in_a_row_end_in_quarantine_and_old_ones_are_forgotten(
            pauses in prop::collection::vec(0..1_000u64, 1..20),
        ) {
            let (mut deaths, mut now) = (Deaths::default(), Instant::now());
            let mut times = Vec::new();
            for pause in pauses {
                now += Duration::from_secs(pause);
                times.push(now);
                let counted = times.iter().filter(|time| now - **time < DEATHS_WINDOW).count();
                let expected = match counted {
                    1 => Verdict::RestartAfter(Duration::ZERO),
                    2 => Verdict::RestartAfter(RESTART_PAUSE),
                    _ => Verdict::Quarantine,
                };
                prop_assert_eq!(deaths.record(now), expected);
                prop_assert!(deaths.runs_alone(now) && !deaths.runs_alone(now + ALONE_FOR));
            }
        }
    }
}
