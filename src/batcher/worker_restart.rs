//! Restarts worker processes that have died, on threads of their own.

use std::time::{Duration, Instant};

use super::{
    sync::{Arc, thread},
    version_batcher::{Batcher, LaneId},
    worker_deaths::{DEATHS_WINDOW, DiedIn, MAX_DEATHS, RESTART_PAUSE, RestartDecision},
};
use crate::{engine::Model, error::Lost};

/// Checks for an idle worker that has died, and the pause between two. A run that its death ends is over sooner.
const MAX_DEATH_CHECKS: usize = 50;
const DEATH_CHECK_PAUSE: Duration = Duration::from_millis(10);

impl<M: Model> Batcher<M> {
    /// Has workers restarted that die while they are idle. To be called once, before requests come. Those that die in a run are
    /// found out by the run.
    pub fn restart_idle_workers(self: &Arc<Self>) {
        for instance in self.compute_lane.lock().idle.iter_mut() {
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
            for _ in 0..MAX_DEATH_CHECKS {
                let found = self.compute_lane.lock().idle.take_if(M::is_worker_gone);
                if let Some((device, instance)) = found {
                    return self.restart_worker(device, instance, DiedIn::Idle);
                }
                thread::sleep(DEATH_CHECK_PAUSE);
            }
        };
        if let Err(error) = thread::Builder::new().name("restart".into()).spawn(find) {
            tracing::warn!(%error, "worker process died, no thread can be started, next request restarts it");
        }
    }

    /// Restarts the worker of an instance, which has died, on a thread of its own: the instance comes back to the lane then, and
    /// requests wait for it. Where workers die again and again, the batcher is lost.
    pub(super) fn restart_worker(self: &Arc<Self>, device: usize, mut instance: M, died: DiedIn) {
        let found = instance.death();
        // Whatever ended it from outside may have ended others at the same time, and says nothing of the model.
        let is_outside = died == DiedIn::Idle && found.is_some_and(|death| !death.is_fault());
        let death = found.map(ToString::to_string).unwrap_or_default();
        let (model, version) = (&*self.model, self.version);
        self.metrics.worker_died();
        let verdict = match is_outside {
            true => RestartDecision::RestartAfter(RESTART_PAUSE),
            false => self.worker_deaths.record(Instant::now()),
        };
        let pause = match verdict {
            RestartDecision::RestartAfter(pause) => pause,
            RestartDecision::Quarantine => {
                self.compute_lane.lock().idle.lose(device);
                let window = humantime::format_duration(DEATHS_WINDOW);
                let why = format!("its worker processes died {MAX_DEATHS} times within {window}: the last {death}");
                return self.lose(Lost::for_good(why));
            }
        };
        tracing::error!(model, version, error = death, retry_in = ?pause, "worker process died, restarting");
        let batcher = self.clone();
        let restart = move || {
            thread::sleep(pause);
            let restarted = instance.restart();
            let mut contents = batcher.compute_lane.lock();
            if let Err(failure) = restarted {
                contents.idle.lose(device);
                drop(contents);
                return batcher.lose(Lost::for_now(format!(
                    "its worker process {death}, and can't be restarted: {}",
                    failure.why
                )));
            }
            contents.idle.put(device, instance);
            let waits = !contents.queue.is_empty();
            contents.scheduled += usize::from(waits);
            drop(contents);
            let (model, version) = (&*batcher.model, batcher.version);
            tracing::info!(model, version, "worker process restarted");
            if waits {
                batcher.schedule(LaneId::Compute);
            }
        };
        if let Err(error) = thread::Builder::new().name("restart".into()).spawn(restart) {
            self.compute_lane.lock().idle.lose(device);
            self.lose(Lost::for_now(format!(
                "its worker process died, and no thread can be started to restart it: {error}"
            )));
        }
    }
}
