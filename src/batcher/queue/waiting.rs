//! Waiting jobs and their limits.

use smallvec::SmallVec;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{batcher::forecast::Forecast, config::QueueTime, metrics::Rejection};

/// Key that jobs must have in common to run together, beyond the model's signature: the extents of the inputs' variable inner
/// axes. Empty, and then costs no memory, for models that have none.
pub(in crate::batcher) type BatchKey = Box<[usize]>;

/// Limits of a queue.
#[derive(Debug, Clone)]
pub(in crate::batcher) struct QueueLimits {
    /// Rows of a batch at most.
    pub max_rows: usize,
    /// Jobs at most that wait before a newcomer: those of its priority level and of higher ones.
    pub max_jobs: usize,
    /// Time that the first of a batch may wait for others while an instance is free.
    pub max_delay: Duration,
    /// One for each priority level, the highest first; at least one.
    pub levels: Arc<[LevelLimits]>,
}

/// The limits of one priority level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LevelLimits {
    /// Jobs of the level that wait at most, beside the limit of the whole queue.
    pub max_jobs: usize,
    /// Time that a job may wait.
    pub max_wait: QueueTime,
}

/// A waiting job with what the policy needs to know of it.
#[derive(Debug)]
pub(in crate::batcher) struct Waiting<J> {
    pub key: BatchKey,
    pub rows: usize,
    /// Index of its priority level; 0 is the highest.
    pub level: usize,
    pub arrived: Instant,
    pub deadline: Option<Instant>,
    /// True if it is a later piece of a request, and waits for the pieces before it.
    pub is_rest: bool,
    /// Its place in the order of arrival, which the queue gives it.
    pub number: u64,
    /// True if it was admitted because its answer was predicted to be in time.
    pub predicted: bool,
    pub job: J,
}

/// The next step of an instance that is free.
#[derive(Debug)]
pub(in crate::batcher) enum NextStep<J> {
    /// Run these as one batch. They are in order of level and arrival, have one key, and at most `max_rows` rows (a job that
    /// alone has more runs alone).
    Run(Vec<Waiting<J>>),
    /// Nothing is due before this instant; take again then, or after a push.
    WaitUntil(Instant),
    /// Nothing waits.
    Idle,
}

/// A job that left the queue without a run.
#[derive(Debug)]
pub(in crate::batcher) struct Dropped<J> {
    pub why: Rejection,
    pub waiting: Waiting<J>,
}

/// A job whose waiter may have gone.
pub(in crate::batcher) trait Cancel {
    /// True if nobody waits for the answer any more.
    fn is_cancelled(&self) -> bool;
}

/// The limits of the time in the queue as they are at an instant: worked out once for all jobs that are looked at.
pub(super) struct WaitLimits {
    pub now: Instant,
    /// The arrival before which a job of each priority level has waited too long; `None` where it may wait for ever.
    oldest_arrival: SmallVec<[Option<Instant>; 1]>,
}

/// True if what takes so long from `now` on ends after an instant.
pub(super) fn ends_after(instant: Instant, now: Instant, takes: Duration) -> bool {
    instant.saturating_duration_since(now) < takes
}

impl WaitLimits {
    pub(super) fn new(now: Instant, limits: &QueueLimits, forecast: &Forecast) -> Self {
        let oldest_arrival = |level: &LevelLimits| {
            let max_wait = forecast.max_wait(level.max_wait, now)?;
            // To wait for others to join is what the model's settings ask for.
            now.checked_sub(max_wait.saturating_add(limits.max_delay))
        };
        WaitLimits { now, oldest_arrival: limits.levels.iter().map(oldest_arrival).collect() }
    }
}

impl<J: Cancel> Waiting<J> {
    /// True if the deadline has passed.
    pub(in crate::batcher) fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// True if a run would help nobody.
    pub(in crate::batcher) fn is_dead(&self, now: Instant) -> bool {
        self.is_late(now) || self.job.is_cancelled()
    }

    /// Why a run would help nobody, or comes too late.
    pub(super) fn reason_to_drop(&self, wait_limits: &WaitLimits) -> Option<Rejection> {
        if self.is_late(wait_limits.now) {
            return Some(Rejection::Deadline);
        }
        if self.job.is_cancelled() {
            return Some(Rejection::Cancelled);
        }
        let oldest = wait_limits.oldest_arrival.get(self.level).copied().flatten()?;
        (!self.is_rest && self.arrived < oldest).then_some(Rejection::QueueTime)
    }
}
