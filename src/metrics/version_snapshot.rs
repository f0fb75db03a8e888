//! Figures of a version at one moment: plain values, for whatever reads them. The exposition renders these.

use std::time::Duration;

use super::{
    histogram::{Bounds, DURATIONS, HistogramSnapshot, NO_DURATIONS, ROWS},
    reasons::{Rejection, StopReason},
};
use crate::{error::Code, traffic::Reason};

/// Figures of a version at one moment.
///
/// Counters and distributions only grow as long as the version exists, over its reloads too. A version that is loaded anew after it
/// was gone begins at zero. Requests go on while the figures are read: two of them may differ by the requests of that moment.
#[derive(Debug, Clone)]
pub struct VersionSnapshot {
    /// Requests that were answered.
    pub succeeded: u64,
    /// Requests that failed: by [`Code::OF_INFERENCES`], in that order (`failed[code as usize]`).
    pub failed: [u64; Code::OF_INFERENCES.len()],
    /// Requests that came to the version: by [`Reason::ALL`], in that order.
    pub routed: [u64; Reason::ALL.len()],
    /// Requests that never ran, which are among those that failed: by [`Rejection::ALL`], in that order.
    pub rejected: [u64; Rejection::ALL.len()],
    /// Runs that were stopped before they had ended: by [`StopReason::ALL`], in that order.
    pub stopped: [u64; StopReason::ALL.len()],
    /// Runs that did not end though they were stopped.
    pub abandoned: u64,
    /// Requests that wait or run now.
    pub in_flight: u64,
    /// Rows that ONNX Runtime was given.
    pub rows: u64,
    /// Nanoseconds from a decoded request to its answer, of those that succeeded.
    pub request_duration: HistogramSnapshot,
    /// Rows of each batch that ran. Its count is the number of batches.
    pub batch_rows: HistogramSnapshot,
    /// Times of each phase: by [`RequestPhase::ALL`], in that order.
    pub phases: [PhaseSnapshot; RequestPhase::ALL.len()],
    /// Requests that wait now. One of more rows than a batch may have counts for each of its pieces.
    pub queued_requests: u64,
    /// Rows of those requests.
    pub queued_rows: u64,
    /// Predicted time until all that wait in its longest queue have run.
    pub queued_work: Duration,
    /// Requests that may wait in each of its queues.
    pub queue_limit: u64,
    /// Worker processes that died.
    pub worker_deaths: u64,
    /// Time that the last load took.
    pub load_time: Duration,
    /// Bytes that its runs hold on the host now.
    pub run_memory: u64,
    /// Runs that were refused memory.
    pub run_memory_refused: u64,
}

/// Times of one phase.
#[derive(Debug, Clone)]
pub struct PhaseSnapshot {
    /// Nanoseconds of each batch; of the queue phase: of each request.
    pub duration: HistogramSnapshot,
    /// Nanoseconds of all requests together: the time of a batch counts for every request in it.
    pub request_nanoseconds: u64,
}

/// Phase of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestPhase {
    /// Waiting for an instance.
    Queue,
    /// Stacking rows into the batch.
    Input,
    /// ONNX Runtime.
    Run,
    /// Cutting the batch's outputs into answers.
    Output,
}

impl RequestPhase {
    /// Every phase, in the order of a request's life.
    pub const ALL: [RequestPhase; 4] =
        [RequestPhase::Queue, RequestPhase::Input, RequestPhase::Run, RequestPhase::Output];

    /// Bounds of its times. The time of a copy has no buckets: it follows from the bytes.
    pub(super) fn bounds(self) -> &'static Bounds {
        match self {
            RequestPhase::Queue | RequestPhase::Run => &DURATIONS,
            RequestPhase::Input | RequestPhase::Output => &NO_DURATIONS,
        }
    }
}

impl VersionSnapshot {
    /// Figures of a version that has done nothing.
    pub(super) fn new() -> Self {
        let phase = |phase: RequestPhase| PhaseSnapshot {
            duration: HistogramSnapshot::new(phase.bounds()),
            request_nanoseconds: 0,
        };
        VersionSnapshot {
            succeeded: 0,
            failed: Default::default(),
            routed: Default::default(),
            rejected: Default::default(),
            stopped: Default::default(),
            abandoned: 0,
            in_flight: 0,
            rows: 0,
            request_duration: HistogramSnapshot::new(&DURATIONS),
            batch_rows: HistogramSnapshot::new(&ROWS),
            phases: RequestPhase::ALL.map(phase),
            queued_requests: 0,
            queued_rows: 0,
            queued_work: Duration::ZERO,
            queue_limit: 0,
            worker_deaths: 0,
            load_time: Duration::ZERO,
            run_memory: 0,
            run_memory_refused: 0,
        }
    }

    /// Times of a phase.
    pub fn phase(&self, phase: RequestPhase) -> &PhaseSnapshot {
        &self.phases[phase as usize]
    }
}
