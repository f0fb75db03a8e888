use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::histogram::{DURATION_BOUNDS, Histogram, ROWS_BOUNDS};
use crate::error::{Code, Error};

/// What one loaded version counts.
#[derive(Debug)]
pub struct VersionMetrics {
    pub(super) model: String,
    pub(super) version: u64,
    pub(super) load_nanoseconds: AtomicU64,
    pub(super) succeeded: AtomicU64,
    pub(super) failed: [AtomicU64; Code::ALL.len()],
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
        let phase =
            || PhaseMetrics { duration: Histogram::new(DURATION_BOUNDS), request_nanoseconds: AtomicU64::new(0) };
        VersionMetrics {
            model: model.into(),
            version,
            load_nanoseconds: AtomicU64::new(0),
            succeeded: AtomicU64::new(0),
            failed: Default::default(),
            pending: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            request_duration: Histogram::new(DURATION_BOUNDS),
            batch_rows: Histogram::new(ROWS_BOUNDS),
            phases: [phase(), phase(), phase(), phase()],
        }
    }

    /// A request has left the queue after `waited`.
    pub fn left_queue(&self, waited: Duration) {
        let phase = &self.phases[Phase::Queue as usize];
        let nanoseconds = nanoseconds(waited);
        phase.duration.record(nanoseconds);
        phase.request_nanoseconds.fetch_add(nanoseconds, Relaxed);
    }

    /// A load of the version took `duration`.
    pub fn loaded(&self, duration: Duration) {
        self.load_nanoseconds.store(nanoseconds(duration), Relaxed);
    }

    /// ONNX Runtime was given a batch of `rows`.
    pub fn batch_ran(&self, rows: u64) {
        self.rows.fetch_add(rows, Relaxed);
        self.batch_rows.record(rows);
    }

    /// A batch of `requests` spent `duration` in a phase.
    pub fn phase_took(&self, phase: Phase, duration: Duration, requests: u64) {
        let phase = &self.phases[phase as usize];
        let nanoseconds = nanoseconds(duration);
        phase.duration.record(nanoseconds);
        phase.request_nanoseconds.fetch_add(nanoseconds * requests, Relaxed);
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
    /// A request has arrived.
    pub fn start(metrics: &Arc<VersionMetrics>) -> Self {
        metrics.pending.fetch_add(1, Relaxed);
        RequestTimer { metrics: metrics.clone(), started: Instant::now(), finished: false }
    }

    /// The request has been answered.
    pub fn finish<T>(mut self, answer: &Result<T, Error>) {
        self.finished = true;
        match answer {
            Ok(_) => {
                self.metrics.succeeded.fetch_add(1, Relaxed);
                self.metrics.request_duration.record(nanoseconds(self.started.elapsed()));
            }
            Err(error) => {
                self.metrics.failed[error.code() as usize].fetch_add(1, Relaxed);
            }
        }
    }
}

impl Drop for RequestTimer {
    fn drop(&mut self) {
        self.metrics.pending.fetch_sub(1, Relaxed);
        if !self.finished {
            self.metrics.failed[Code::Cancelled as usize].fetch_add(1, Relaxed);
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
