//! Work of a watched thread: the reasons for which its run is stopped, and the time after which it is abandoned.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{
            AtomicBool,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::{Duration, Instant},
};

use super::{
    batch::{Members, SharedBatch},
    watched_batcher::WatchedBatcher,
};
use crate::{engine::RunControl, metrics::StopReason};

/// Time for which a run that is stopped for its length may ignore that. ONNX Runtime looks for the stop between two operators, so a run
/// that goes on for longer is within one operator, and may never come back.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Work of a thread that runs models.
#[derive(Default)]
pub(super) enum Task {
    #[default]
    None,
    /// Batches of this batcher, inline on an I/O thread.
    Inline(Arc<Weak<dyn WatchedBatcher>>),
    /// These jobs of a batch.
    Batch(Arc<dyn WatchedBatcher>, Arc<SharedBatch>, Members),
    /// Runs of a load, each of which may take so long.
    Load(Option<Duration>, Arc<LoadWatch>),
}

/// A load whose runs are watched, shared with the thread that has started it.
pub struct LoadWatch {
    is_given_up: AtomicBool,
    is_stuck: AtomicBool,
    /// Of the thread that loads.
    control: OnceLock<Arc<RunControl>>,
    notify_stuck: Box<dyn Fn() + Send + Sync>,
}

impl LoadWatch {
    /// A load is about to begin. The function is called once [`Self::is_stuck`] holds; it must not block.
    pub fn new(notify_stuck: impl Fn() + Send + Sync + 'static) -> Self {
        let (is_given_up, is_stuck) = (AtomicBool::new(false), AtomicBool::new(false));
        LoadWatch { is_given_up, is_stuck, control: OnceLock::new(), notify_stuck: Box::new(notify_stuck) }
    }

    /// Stops the load's present run, or the session that it makes, and all that would follow.
    pub fn give_up(&self) {
        self.is_given_up.store(true, SeqCst);
        if let Some(control) = self.control.get() {
            control.give_up_sessions();
        }
    }

    pub(super) fn begin(&self, control: &Arc<RunControl>) {
        let _ = self.control.set(control.clone());
        // It may have been given up before.
        if self.is_given_up.load(SeqCst) {
            control.give_up_sessions();
        }
    }

    /// Reports that a run of the load was stopped and does not end.
    pub(super) fn stick(&self) {
        self.is_stuck.store(true, SeqCst);
        (self.notify_stuck)();
    }

    /// True if a run of the load was stopped and did not end.
    pub fn is_stuck(&self) -> bool {
        self.is_stuck.load(Relaxed)
    }
}

impl Task {
    /// Reason for which the run should end, if there is one.
    pub(super) fn stop_reason(&self, now: Instant, took: Duration) -> Option<StopReason> {
        let is_too_long = |limit: Option<Duration>| limit.is_some_and(|limit| took >= limit);
        let reason = match self {
            Task::None => return None,
            Task::Inline(batcher) => is_too_long(batcher.upgrade()?.max_run_time()),
            Task::Batch(batcher, batch, members) => match batch.end_of_interest(members, now) {
                Some(reason) => return Some(reason),
                None => is_too_long(batcher.max_run_time()),
            },
            Task::Load(_, load) if load.is_given_up.load(Relaxed) => return Some(StopReason::LoadEnded),
            Task::Load(limit, _) => is_too_long(*limit),
        };
        reason.then_some(StopReason::MaxRunTime)
    }

    /// True if a run that was stopped so long ago should have ended by now. One that was stopped for its clients' sake has the
    /// time that every run has.
    pub(super) fn is_overdue(&self, took: Duration, since_stop: Duration) -> bool {
        if since_stop < STOP_TIMEOUT {
            return false;
        }
        let limit = match self {
            Task::None => None,
            Task::Inline(batcher) => batcher.upgrade().and_then(|batcher| batcher.max_run_time()),
            Task::Batch(batcher, ..) => batcher.max_run_time(),
            Task::Load(_, load) if load.is_given_up.load(Relaxed) => return true,
            Task::Load(limit, _) => *limit,
        };
        limit.is_some_and(|limit| took >= limit.saturating_add(STOP_TIMEOUT))
    }

    /// Counts and logs that the run was stopped.
    pub(super) fn report_stop(&self, reason: StopReason, took: Duration) {
        let batcher = match self {
            Task::Batch(batcher, ..) => Some(batcher.clone()),
            Task::Inline(batcher) => batcher.upgrade(),
            Task::None | Task::Load(..) => None,
        };
        if let Some(batcher) = batcher {
            batcher.report_stop(reason, took);
        }
    }
}
