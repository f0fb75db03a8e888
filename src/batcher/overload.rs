//! Refuses and drops requests of a lane: the admission policy, applied under the lane's lock, and its errors.

use std::time::{Duration, Instant};

use super::{
    Batcher, Job, Place, State,
    admission::{Admitted, Refusal, Run},
    forecast::Newcomer,
    queue::{Dropped, Next, Waiting},
};
use crate::{
    error::{Code, Error},
    metrics::{QueueRates, Rejection},
};

/// Longest time after which a client is told to try again, in seconds.
const MAX_RETRY_AFTER: u64 = 60;

impl State {
    /// Decides about the jobs of one request, all or none. Returns the dead jobs that left to make room for them, too.
    pub(super) fn admit(&mut self, newcomer: &Newcomer) -> (Result<Admitted, Refusal>, Vec<Dropped<Job>>) {
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
    pub(super) fn take(&mut self, now: Instant) -> (Next<Job>, Vec<Dropped<Job>>, Option<Run>) {
        self.admission.take(&mut self.queue, now)
    }

    /// A run has ended. Returns what it has shown. A lone request of an I/O thread takes less time than to read the clock often:
    /// nothing is learned of it.
    pub(super) fn ended(&mut self, run: Option<Run>, place: Place) -> Option<QueueRates> {
        let run = run?;
        if matches!(place, Place::Here(_)) && self.queue.is_empty() {
            self.admission.forget(&run);
            return None;
        }
        let now = Instant::now();
        self.admission.ended(run, now);
        Some(self.admission.rates(&self.queue, now))
    }

    /// A run was stopped before it had ended.
    pub(super) fn stopped(&mut self, run: Option<Run>) {
        if let Some(run) = run {
            self.admission.stopped(&run, Instant::now());
        }
    }

    /// A run has ended of which nothing is to be learned, such as one that ended its worker process.
    pub(super) fn forget(&mut self, run: Option<Run>) {
        if let Some(run) = run {
            self.admission.forget(&run);
        }
    }
}

impl Batcher {
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

    /// The error of a newcomer that is not let in.
    pub(super) fn refused(&self, refusal: Refusal) -> Error {
        let (why, message, wait) = match refusal {
            Refusal::Full { limit } => {
                let message = format!("the queue of {} is full: {limit} requests wait; try again later", self.label);
                (Rejection::QueueFull, message, Duration::ZERO)
            }
            Refusal::Late { wait, answer, left } => {
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
            Refusal::QueueTime { wait, limit } => {
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
