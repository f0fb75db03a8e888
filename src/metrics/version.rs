use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::histogram::{DURATION_BOUNDS, Histogram, ROWS_BOUNDS};
use crate::{
    error::{Code, Error},
    per_thread::PerThread,
    traffic::Reason,
};

/// What one loaded version counts.
#[derive(Debug)]
pub struct VersionMetrics {
    pub(super) model: String,
    pub(super) version: u64,
    load_nanoseconds: AtomicU64,
    counts: PerThread<Counts>,
}

/// What one thread has counted, or all of them.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) load_nanoseconds: AtomicU64,
    pub(super) succeeded: AtomicU64,
    pub(super) failed: [AtomicU64; Code::OF_INFERENCES.len()],
    pub(super) routed: [AtomicU64; Reason::ALL.len()],
    pub(super) pending: AtomicU64,
    pub(super) rows: AtomicU64,
    pub(super) request_duration: Histogram,
    pub(super) batch_rows: Histogram,
    pub(super) phases: [PhaseMetrics; Phase::ALL.len()],
}

/// One phase's time, told per batch and summed over requests.
#[derive(Debug)]
pub(super) struct PhaseMetrics {
    /// Each batch once; the queue phase: each request once.
    pub(super) duration: Histogram,
    /// The batch's time counted for every request in it, in nanoseconds: what Triton's counters hold.
    pub(super) request_nanoseconds: AtomicU64,
}

/// Where a request's time goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for an instance.
    Queue,
    /// Stacking rows into the batch.
    Input,
    /// ONNX Runtime.
    Run,
    /// Cutting the batch's outputs into answers.
    Output,
}

impl Phase {
    /// Every phase, in the order of a request's life.
    pub const ALL: [Phase; 4] = [Phase::Queue, Phase::Input, Phase::Run, Phase::Output];
}

impl VersionMetrics {
    /// Counters at zero.
    pub(super) fn new(model: &str, version: u64) -> Self {
        VersionMetrics {
            model: model.into(),
            version,
            load_nanoseconds: AtomicU64::new(0),
            counts: PerThread::new(Counts::new),
        }
    }

    /// What all threads have counted.
    pub(super) fn total(&self) -> Counts {
        let mut total = Counts::new();
        *total.load_nanoseconds.get_mut() = self.load_nanoseconds.load(Relaxed);
        self.counts.all().for_each(|counts| total.add(counts));
        // One that began after its thread was read, and ended before the other was.
        let pending = total.pending.get_mut();
        *pending = pending.cast_signed().max(0).cast_unsigned();
        total
    }

    /// A request has left the queue after `waited`.
    pub fn left_queue(&self, waited: Duration) {
        self.counts.here().phase_took(Phase::Queue, waited, 1);
    }

    /// A load of the version took `duration`.
    pub fn loaded(&self, duration: Duration) {
        self.load_nanoseconds.store(nanoseconds(duration), Relaxed);
    }

    /// ONNX Runtime was given a batch of `rows`.
    pub fn batch_ran(&self, rows: u64) {
        let counts = self.counts.here();
        counts.rows.fetch_add(rows, Relaxed);
        counts.batch_rows.record(rows);
    }

    /// A batch of `requests` spent `duration` in a phase.
    pub fn phase_took(&self, phase: Phase, duration: Duration, requests: u64) {
        self.counts.here().phase_took(phase, duration, requests);
    }
}

impl Counts {
    fn new() -> Self {
        let phase =
            || PhaseMetrics { duration: Histogram::new(DURATION_BOUNDS), request_nanoseconds: AtomicU64::new(0) };
        Counts {
            load_nanoseconds: AtomicU64::new(0),
            succeeded: AtomicU64::new(0),
            failed: Default::default(),
            routed: Default::default(),
            pending: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            request_duration: Histogram::new(DURATION_BOUNDS),
            batch_rows: Histogram::new(ROWS_BOUNDS),
            phases: [phase(), phase(), phase(), phase()],
        }
    }

    fn phase_took(&self, phase: Phase, duration: Duration, requests: u64) {
        let phase = &self.phases[phase as usize];
        let nanoseconds = nanoseconds(duration);
        phase.duration.record(nanoseconds);
        phase.request_nanoseconds.fetch_add(nanoseconds * requests, Relaxed);
    }

    fn add(&mut self, other: &Counts) {
        let add = |to: &mut AtomicU64, from: &AtomicU64| {
            // A request may end on another thread than it began on: what is pending of one thread can be below zero.
            *to.get_mut() = to.get_mut().wrapping_add(from.load(Relaxed));
        };
        add(&mut self.succeeded, &other.succeeded);
        add(&mut self.pending, &other.pending);
        add(&mut self.rows, &other.rows);
        self.failed.iter_mut().zip(&other.failed).for_each(|(to, from)| add(to, from));
        self.routed.iter_mut().zip(&other.routed).for_each(|(to, from)| add(to, from));
        self.request_duration.add(&other.request_duration);
        self.batch_rows.add(&other.batch_rows);
        for (to, from) in self.phases.iter_mut().zip(&other.phases) {
            to.duration.add(&from.duration);
            add(&mut to.request_nanoseconds, &from.request_nanoseconds);
        }
    }
}

/// Counts one request from its arrival to its end, whichever way it ends: dropped without [`RequestTimer::finish`] it was
/// cancelled.
#[derive(Debug)]
pub struct RequestTimer {
    metrics: Arc<VersionMetrics>,
    started: Instant,
    finished: bool,
}

impl RequestTimer {
    /// A request has been sent to the version, for that reason.
    pub fn start(metrics: &Arc<VersionMetrics>, reason: Reason, now: Instant) -> Self {
        let counts = metrics.counts.here();
        counts.routed[reason as usize].fetch_add(1, Relaxed);
        counts.pending.fetch_add(1, Relaxed);
        RequestTimer { metrics: metrics.clone(), started: now, finished: false }
    }

    /// The request has been answered.
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
        counts.pending.fetch_sub(1, Relaxed);
        if !self.finished {
            counts.failed[Code::Cancelled as usize].fetch_add(1, Relaxed);
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
