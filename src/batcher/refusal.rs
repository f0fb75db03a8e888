//! Errors of requests that are refused or dropped from the queue.

use std::time::{Duration, Instant};

use super::{admission::AdmissionRefusal, job::Job, queue::Dropped, version_batcher::Batcher};
use crate::{
    engine::Model,
    error::{Code, Error},
    metrics::Rejection,
};

/// Longest Retry-After of a refusal, in seconds.
const MAX_RETRY_AFTER: u64 = 60;

impl<M: Model> Batcher<M> {
    /// Answers jobs that will not run. Those whose waiters have gone are only counted.
    pub(super) fn refuse(&self, dropped: Vec<Dropped<Job>>, now: Instant) {
        for Dropped { why, waiting } in dropped {
            if waiting.job.is_first {
                self.metrics.rejected(why);
            }
            let error = match why {
                Rejection::QueueTime => self.waited(now.saturating_duration_since(waiting.arrived)),
                _ => self.too_late(),
            };
            waiting.job.refuse(error);
        }
    }

    /// The error of a request that is not admitted.
    pub(super) fn refused(&self, refusal: AdmissionRefusal) -> Error {
        let (why, message, wait) = match refusal {
            AdmissionRefusal::Full { limit } => {
                let message = format!("the queue of {} is full: {limit} requests wait; try again later", self.label);
                (Rejection::QueueFull, message, Duration::ZERO)
            }
            AdmissionRefusal::Late { wait, answer, left } => {
                let message = format!(
                    "{} is overloaded: its answer is predicted in {} ({} of it in the queue), and the request's deadline \
                     is in {}; try again later or with a longer timeout",
                    self.label,
                    milliseconds(answer),
                    milliseconds(wait),
                    milliseconds(left)
                );
                (Rejection::PredictedLate, message, answer.saturating_sub(left))
            }
            AdmissionRefusal::QueueTime { wait, limit } => {
                let message = format!(
                    "{} is overloaded: a wait of {} in the queue is predicted, for which max_queue_time = \"{}\" leaves no \
                     room; try again later",
                    self.label,
                    milliseconds(wait),
                    milliseconds(limit)
                );
                (Rejection::QueueTime, message, wait.saturating_sub(limit))
            }
        };
        self.metrics.rejected(why);
        let seconds = wait.as_secs().saturating_add(1).min(MAX_RETRY_AFTER);
        Error::new(Code::ResourceExhausted, message).retry_after(u32::try_from(seconds).unwrap_or(1))
    }

    pub(super) fn too_late(&self) -> Error {
        Error::new(Code::DeadlineExceeded, format!("the request's deadline passed before {} answered", self.label))
    }

    fn waited(&self, waited: Duration) -> Error {
        let message = format!(
            "{} is overloaded: the request has waited {} in the queue, longer than max_queue_time; try again later",
            self.label,
            milliseconds(waited)
        );
        Error::new(Code::ResourceExhausted, message)
    }
}

/// A time as messages show it.
fn milliseconds(duration: Duration) -> String {
    match duration.as_millis() {
        0 => format!("{}us", duration.as_micros()),
        milliseconds => format!("{milliseconds}ms"),
    }
}
