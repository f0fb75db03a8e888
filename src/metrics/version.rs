use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{
    held_memory::VersionMemory,
    histogram::{DURATIONS, Histogram, ROWS},
    reasons::{Rejection, StopReason},
    version_snapshot::{RequestPhase, VersionSnapshot},
};
use crate::{
    error::{Code, Error},
    per_thread::PerThread,
    traffic::Reason,
};

/// Metrics of one loaded version.
#[derive(Debug)]
pub struct VersionMetrics {
    load_nanoseconds: AtomicU64,
    queue_limit: AtomicU64,
    worker_deaths: AtomicU64,
    /// The queues of its generations, as long as they live.
    queues: Mutex<Vec<Weak<QueueGauge>>>,
    memory: VersionMemory,
    counts: PerThread<Counts>,
}

/// Counters of one thread.
#[derive(Debug)]
struct Counts {
    succeeded: AtomicU64,
    failed: [AtomicU64; Code::OF_INFERENCES.len()],
    routed: [AtomicU64; Reason::ALL.len()],
    rejected: [AtomicU64; Rejection::ALL.len()],
    stopped: [AtomicU64; StopReason::ALL.len()],
    abandoned: AtomicU64,
    /// A request may end on another thread than it began on: one thread's count can be negative.
    in_flight: AtomicU64,
    rows: AtomicU64,
    request_duration: Histogram,
    batch_rows: Histogram,
    phases: [PhaseMetrics; RequestPhase::ALL.len()],
}

/// Gauge of the requests that wait in a queue, as last reported. Each thread has a queue of its own. Their gauges lie apart in
/// memory, as in `per_thread`.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct QueueGauge {
    requests: AtomicU64,
    rows: AtomicU64,
    rates: Mutex<QueueRates>,
}

/// Time that a queue's work takes, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct QueueRates {
    /// For every request in the queue.
    pub per_request: f64,
    /// For every row.
    pub per_row: f64,
    /// For every batch of `max_rows` rows.
    pub per_batch: f64,
    /// Rows of a batch at most.
    pub max_rows: usize,
}

impl QueueGauge {
    /// Reports the number of requests that wait, and of their rows. Only one thread at a time calls this.
    pub fn set(&self, requests: usize, rows: usize) {
        self.requests.store(requests as u64, Relaxed);
        self.rows.store(rows as u64, Relaxed);
    }

    /// Reports the queue's rates.
    pub fn set_rates(&self, rates: QueueRates) {
        *self.rates() = rates;
    }

    /// Predicted time for the requests that wait, in nanoseconds.
    fn work(&self) -> u64 {
        let (requests, rows) = (self.requests.load(Relaxed), self.rows.load(Relaxed));
        if requests == 0 {
            return 0;
        }
        let rates = *self.rates();
        let batches = rows.div_ceil(rates.max_rows.max(1) as u64).max(1);
        let parts = [(requests, rates.per_request), (rows, rates.per_row), (batches, rates.per_batch)];
        parts.into_iter().map(|(count, each)| count as f64 * each).sum::<f64>() as u64
    }

    fn rates(&self) -> MutexGuard<'_, QueueRates> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One phase's time, recorded per batch and summed over requests.
#[derive(Debug)]
struct PhaseMetrics {
    /// Each batch once; the queue phase: each request once.
    duration: Histogram,
    /// The batch's time counted for every request in it, in nanoseconds, as Triton's counters are defined.
    request_nanoseconds: AtomicU64,
}

impl VersionMetrics {
    /// Metrics with all counters at zero.
    pub(super) fn new() -> Self {
        VersionMetrics {
            load_nanoseconds: AtomicU64::new(0),
            queue_limit: AtomicU64::new(0),
            worker_deaths: AtomicU64::new(0),
            queues: Mutex::default(),
            memory: VersionMemory::default(),
            counts: PerThread::new(Counts::new),
        }
    }

    /// The figures now: the counters of all threads together, and the gauges. Counting takes no lock, and is not held up by this.
    pub fn snapshot(&self) -> VersionSnapshot {
        let queues: Vec<_> = self.queues().iter().filter_map(Weak::upgrade).collect();
        let mut snapshot = VersionSnapshot {
            queued_requests: queues.iter().map(|queue| queue.requests.load(Relaxed)).sum(),
            queued_rows: queues.iter().map(|queue| queue.rows.load(Relaxed)).sum(),
            queued_work: queues.iter().map(|queue| queue.work()).max().map_or(Duration::ZERO, Duration::from_nanos),
            queue_limit: self.queue_limit.load(Relaxed),
            worker_deaths: self.worker_deaths.load(Relaxed),
            load_time: Duration::from_nanos(self.load_nanoseconds.load(Relaxed)),
            run_memory: self.memory.runs() as u64,
            run_memory_refused: self.memory.refusals(),
            ..VersionSnapshot::new()
        };
        self.counts.all().for_each(|of_thread| of_thread.add_to(&mut snapshot));
        // Negative if a request began after its thread was read, and ended on another thread before that one was read.
        snapshot.in_flight = snapshot.in_flight.cast_signed().max(0).cast_unsigned();
        snapshot
    }

    /// Memory of its sessions.
    pub fn memory(&self) -> &VersionMemory {
        &self.memory
    }

    /// Adds a queue to the version's gauges, for as long as the queue lives.
    pub fn queue(&self) -> Arc<QueueGauge> {
        let queue = Arc::default();
        let mut queues = self.queues();
        queues.retain(|queue| queue.strong_count() > 0);
        queues.push(Arc::downgrade(&queue));
        queue
    }

    fn queues(&self) -> MutexGuard<'_, Vec<Weak<QueueGauge>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request that will not run.
    pub fn rejected(&self, why: Rejection) {
        self.counts.here().rejected[why as usize].fetch_add(1, Relaxed);
    }

    /// Counts a run that was stopped before it had ended.
    pub fn run_stopped(&self, why: StopReason) {
        self.counts.here().stopped[why as usize].fetch_add(1, Relaxed);
    }

    /// Counts a run that was stopped, did not end, and is not waited for any more.
    pub fn run_abandoned(&self) {
        self.counts.here().abandoned.fetch_add(1, Relaxed);
    }

    /// Counts a request that has left the queue after `waited`.
    pub fn left_queue(&self, waited: Duration) {
        self.counts.here().phase_took(RequestPhase::Queue, waited, 1);
    }

    /// Records the duration of a load of the version, and the limit of requests in each of its queues.
    pub fn loaded(&self, duration: Duration, queue_limit: usize) {
        self.load_nanoseconds.store(nanoseconds(duration), Relaxed);
        self.queue_limit.store(queue_limit as u64, Relaxed);
    }

    /// Counts a worker process of the version that died.
    pub fn worker_died(&self) {
        self.worker_deaths.fetch_add(1, Relaxed);
    }

    /// Counts a batch of `rows` that ONNX Runtime was given.
    pub fn batch_ran(&self, rows: u64) {
        let counts = self.counts.here();
        counts.rows.fetch_add(rows, Relaxed);
        counts.batch_rows.record(rows);
    }

    /// Records that a batch of `requests` spent `duration` in a phase.
    pub fn phase_took(&self, phase: RequestPhase, duration: Duration, requests: u64) {
        self.counts.here().phase_took(phase, duration, requests);
    }
}

impl Counts {
    fn new() -> Self {
        let phase = |phase: RequestPhase| PhaseMetrics {
            duration: Histogram::new(phase.bounds()),
            request_nanoseconds: AtomicU64::new(0),
        };
        Counts {
            succeeded: AtomicU64::new(0),
            failed: Default::default(),
            routed: Default::default(),
            rejected: Default::default(),
            stopped: Default::default(),
            abandoned: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            request_duration: Histogram::new(&DURATIONS),
            batch_rows: Histogram::new(&ROWS),
            phases: RequestPhase::ALL.map(phase),
        }
    }

    fn phase_took(&self, phase: RequestPhase, duration: Duration, requests: u64) {
        let phase = &self.phases[phase as usize];
        let nanoseconds = nanoseconds(duration);
        phase.duration.record(nanoseconds);
        phase.request_nanoseconds.fetch_add(nanoseconds * requests, Relaxed);
    }

    fn add_to(&self, snapshot: &mut VersionSnapshot) {
        let add = |to: &mut u64, from: &AtomicU64| *to = to.wrapping_add(from.load(Relaxed));
        let add_all = |to: &mut [u64], from: &[AtomicU64]| to.iter_mut().zip(from).for_each(|(to, from)| add(to, from));
        add(&mut snapshot.succeeded, &self.succeeded);
        add(&mut snapshot.abandoned, &self.abandoned);
        add(&mut snapshot.in_flight, &self.in_flight);
        add(&mut snapshot.rows, &self.rows);
        add_all(&mut snapshot.failed, &self.failed);
        add_all(&mut snapshot.routed, &self.routed);
        add_all(&mut snapshot.rejected, &self.rejected);
        add_all(&mut snapshot.stopped, &self.stopped);
        self.request_duration.add_to(&mut snapshot.request_duration);
        self.batch_rows.add_to(&mut snapshot.batch_rows);
        for (to, from) in snapshot.phases.iter_mut().zip(&self.phases) {
            from.duration.add_to(&mut to.duration);
            add(&mut to.request_nanoseconds, &from.request_nanoseconds);
        }
    }
}

/// Counts one request from its arrival to its end. A request that is dropped without [`RequestTimer::finish`] was cancelled.
#[derive(Debug)]
pub struct RequestTimer {
    metrics: Arc<VersionMetrics>,
    started: Instant,
    finished: bool,
}

impl RequestTimer {
    /// Counts a request that was sent to the version, with the routing reason.
    pub fn start(metrics: &Arc<VersionMetrics>, reason: Reason, now: Instant) -> Self {
        let counts = metrics.counts.here();
        counts.routed[reason as usize].fetch_add(1, Relaxed);
        counts.in_flight.fetch_add(1, Relaxed);
        RequestTimer { metrics: metrics.clone(), started: now, finished: false }
    }

    /// Counts the answer of the request.
    pub fn finish(mut self, answer: Result<(), &Error>) {
        self.finished = true;
        match answer {
            Ok(()) => {
                let counts = self.metrics.counts.here();
                counts.succeeded.fetch_add(1, Relaxed);
                counts.request_duration.record(nanoseconds(self.started.elapsed()));
            }
            Err(error) => {
                self.metrics.counts.here().failed[error.code() as usize].fetch_add(1, Relaxed);
            }
        }
    }
}

impl Drop for RequestTimer {
    fn drop(&mut self) {
        let counts = self.metrics.counts.here();
        counts.in_flight.fetch_sub(1, Relaxed);
        if !self.finished {
            counts.failed[Code::Cancelled as usize].fetch_add(1, Relaxed);
        }
    }
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
