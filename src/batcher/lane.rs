//! A lane: a queue, and the idle instances that run its batches, under one lock.

use std::time::Instant;

use super::{
    admission::{Admission, AdmissionRefusal, Admitted, AdmittedRun},
    forecast::Newcomer,
    idle::Idle,
    instances::OnDevice,
    job::Job,
    queue::{Dropped, NextStep, Queue, QueueLimits, Waiting},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    watched_batcher::WatchedBatcher,
};
use crate::metrics::{QueueGauge, QueueRates, VersionMetrics};

/// A queue and the instances that run its batches.
pub(super) struct Lane<M> {
    // A std mutex: it is held for a few pushes and pops, never across a run or an await. The lane of an I/O thread has its own.
    contents: Mutex<LaneContents<M>>,
    /// True if the last batch held more than one request, and the next is likely to.
    crowded: AtomicBool,
    /// Gauge of the waiting jobs. Set, and not sampled under the lock: a scraping thread may have to wait for the CPU.
    gauge: Arc<QueueGauge>,
    /// The batcher, for the watchdog. Apart for each lane, so that threads don't write to the same count.
    batcher: Arc<Weak<dyn WatchedBatcher>>,
}

/// Contents of a lane, which its lock protects.
pub(super) struct LaneContents<M> {
    pub queue: Queue<Job>,
    admission: Admission,
    pub idle: Idle<M>,
    /// Calls of `drive` that are on their way; as many as there are idle instances make a further one needless.
    pub scheduled: usize,
    /// When a call of `drive` is due because a batch waits for more jobs.
    pub timer: Option<Instant>,
}

impl<M> Lane<M> {
    pub(super) fn new(
        limits: QueueLimits,
        devices: Vec<OnDevice<M>>,
        metrics: &VersionMetrics,
        batcher: Weak<dyn WatchedBatcher>,
    ) -> Self {
        let idle = Idle::new(devices.into_iter().map(|OnDevice { instances, in_flight }| (instances, in_flight)));
        let admission = Admission::new(limits.levels.len(), idle.len());
        let contents = LaneContents { queue: Queue::new(limits), admission, idle, scheduled: 0, timer: None };
        Lane {
            contents: Mutex::new(contents),
            crowded: AtomicBool::new(false),
            gauge: metrics.queue(),
            batcher: Arc::new(batcher),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, LaneContents<M>> {
        // The contents are consistent at every point where a panic could happen.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes the number of waiting jobs, while the lock is held.
    pub(super) fn update_gauge(&self, contents: &LaneContents<M>) {
        let waiting = contents.queue.total();
        self.gauge.set(waiting.jobs, waiting.rows);
    }

    /// Publishes the rates at which the queue is worked off.
    pub(super) fn set_rates(&self, rates: QueueRates) {
        self.gauge.set_rates(rates);
    }

    /// True if the last batch held more than one request.
    pub(super) fn is_crowded(&self) -> bool {
        self.crowded.load(Relaxed)
    }

    pub(super) fn set_crowded(&self, crowded: bool) {
        self.crowded.store(crowded, Relaxed);
    }

    /// The batcher, for the watchdog.
    pub(super) fn batcher(&self) -> &Arc<Weak<dyn WatchedBatcher>> {
        &self.batcher
    }
}

impl<M> LaneContents<M> {
    /// Decides about the jobs of one request, all or none. Returns the dead jobs that left to make room for them, too.
    pub(super) fn admit(&mut self, newcomer: &Newcomer) -> (Result<Admitted, AdmissionRefusal>, Vec<Dropped<Job>>) {
        let (is_idle, now) = (self.idle.len() > 0, newcomer.arrived);
        let mut admitted = self.admission.check(newcomer, &self.queue, is_idle);
        let mut dropped = Vec::new();
        if admitted.is_err() {
            // Jobs that nobody wants any more stand in nobody's way.
            dropped = self.queue.drop_dead(now, self.admission.forecast());
            if !dropped.is_empty() {
                self.admission.dropped(&dropped, now);
                admitted = self.admission.check(newcomer, &self.queue, is_idle);
            }
        }
        if let Err(refusal) = &admitted {
            self.admission.refused(newcomer.level, refusal, now);
        }
        (admitted, dropped)
    }

    /// Puts the jobs of an admitted request into the queue.
    pub(super) fn push(&mut self, jobs: impl IntoIterator<Item = Waiting<Job>>, admitted: Admitted) {
        self.queue.push(jobs, admitted.predicted, self.admission.forecast());
    }

    /// The next batch for an instance that is free.
    pub(super) fn take(&mut self, now: Instant) -> (NextStep<Job>, Vec<Dropped<Job>>, Option<AdmittedRun>) {
        self.admission.take(&mut self.queue, now)
    }

    /// Records the end of a run. Returns the rates that it has shown. A lone inline run takes less time than to read the clock
    /// often: nothing is learned of it.
    pub(super) fn run_ended(&mut self, run: Option<AdmittedRun>, is_inline: bool) -> Option<QueueRates> {
        let run = run?;
        if is_inline && self.queue.is_empty() {
            self.admission.forget(&run);
            return None;
        }
        let now = Instant::now();
        self.admission.ended(run, now);
        Some(self.admission.rates(&self.queue, now))
    }

    /// Records that a run was stopped before it had ended.
    pub(super) fn run_stopped(&mut self, run: Option<AdmittedRun>) {
        if let Some(run) = run {
            self.admission.stopped(&run, Instant::now());
        }
    }

    /// Records the end of a run of which nothing is to be learned, such as one that ended its worker process.
    pub(super) fn forget_run(&mut self, run: Option<AdmittedRun>) {
        if let Some(run) = run {
            self.admission.forget(&run);
        }
    }
}
