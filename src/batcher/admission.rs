//! Admission: whether a newcomer is let into the queue, or refused at once because its answer would come too late. Pure: time
//! comes as an argument, and a simulation holds what it promises.
//!
//! A request is refused when its predicted answer would use up more than a part of the time that it has. The part adapts: an
//! admitted request that misses its deadline after all makes it smaller at once, and refusals make it grow slowly. So misses
//! stay rare beside refusals, which cost the client nothing but a round trip.

use smallvec::SmallVec;
use std::time::{Duration, Instant};

use super::{
    forecast::{Begun, Forecast, LaneState, Newcomer, Prediction, nanoseconds},
    queue::{Cancel, Dropped, NextStep, Queue},
};
use crate::metrics::{QueueRates, Rejection};

/// Admission policy of a lane, with its forecast.
#[derive(Debug)]
pub(super) struct Admission {
    forecast: Forecast,
    /// The part of a request's time that its predicted answer may use up, for each priority level.
    fill: SmallVec<[Fill; 1]>,
    /// Instances of the lane, idle or not.
    instances: usize,
}

#[derive(Debug, Clone, Copy)]
struct Fill {
    part: f64,
    least: f64,
    /// Refusals that it takes until the part grows again.
    owed: u32,
    /// When it became smaller. Jobs that came before were let in by the larger part.
    cut: Option<Instant>,
    last_miss: Option<Instant>,
    last_refusal: Option<Instant>,
}

/// A newcomer that is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Admitted {
    /// True if its answer is predicted to be in time. Nothing is predicted for a request without a deadline.
    pub predicted: bool,
}

/// Why a newcomer is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AdmissionRefusal {
    /// So many wait, which is the limit.
    Full { limit: usize },
    /// Its answer would come after its deadline.
    Late { wait: Duration, answer: Duration, left: Duration },
    /// It would wait longer than a request may.
    QueueTime { wait: Duration, limit: Duration },
}

/// A run that has begun, for [`Admission::ended`].
#[derive(Debug)]
pub(super) struct AdmittedRun {
    begun: Begun,
    /// Deadline, level and arrival of its jobs that were predicted to be in time.
    jobs: SmallVec<[(Instant, usize, Instant); 1]>,
}

/// The part at first, and at most while nobody is refused: a burst is let in as far as it can be answered.
const MAX_FILL: f64 = 0.85;
/// The part at most under overload. There a longer queue answers no more requests, only later, and has room for smaller batches
/// alone.
const MAX_FILL_OF_OVERLOAD: f64 = 0.65;
/// The least part, of the highest priority level and of others. Those wait for whatever comes at a higher level meanwhile,
/// which no queue shows.
const MIN_FILL: f64 = 0.3;
const MIN_FILL_OF_LOWER: f64 = 0.02;
/// Changes of the part. A miss lowers it by `CUT`. A refusal lowers it by `LOSS` while it is too large for overload. Otherwise a
/// refusal first pays off those that are owed for misses, then raises it by `GAIN`.
const CUT: f64 = 0.1;
const GAIN: f64 = 0.002;
const LOSS: f64 = 0.01;
/// Refusals that are owed for each miss, and at most: at the balance one refusal in so many is slow.
const OWED_PER_MISS: u32 = 300;
const MAX_OWED: u32 = 30_000;
/// Misses longer ago are forgotten: nothing is owed for them.
const MISSES_REMEMBERED: Duration = Duration::from_secs(10);
/// Overload is over when nobody was refused for so long. Then what is answered in time gives back, at first fast.
const OVERLOAD_REMEMBERED: Duration = Duration::from_millis(500);
const GAIN_AFTER_OVERLOAD: f64 = 0.01;
const GAIN_BY_SUCCESS: f64 = GAIN / 4.0;

impl Admission {
    pub(super) fn new(levels: usize, instances: usize) -> Self {
        let fill = |level: usize| {
            let least = if level == 0 { MIN_FILL } else { MIN_FILL_OF_LOWER };
            Fill { part: MAX_FILL, least, owed: 0, cut: None, last_miss: None, last_refusal: None }
        };
        Admission { forecast: Forecast::new(), fill: (0..levels.max(1)).map(fill).collect(), instances }
    }

    pub(super) fn forecast(&self) -> &Forecast {
        &self.forecast
    }

    /// Rates at which the queue is worked off.
    pub(super) fn rates<J: Cancel>(&self, queue: &Queue<J>, now: Instant) -> QueueRates {
        self.forecast.rates(queue.max_rows(), self.instances, now)
    }

    /// Lets a newcomer in, or says why not. One that finds an idle instance and an empty queue always is: if the forecast is wrong,
    /// its run will show it.
    pub(super) fn check<J: Cancel>(
        &self,
        newcomer: &Newcomer,
        queue: &Queue<J>,
        is_idle: bool,
    ) -> Result<Admitted, AdmissionRefusal> {
        let (level, now) = (newcomer.level, newcomer.arrived);
        if queue.is_empty() && is_idle {
            return Ok(Admitted { predicted: false });
        }
        if let Some(limit) = queue.is_full(level) {
            return Err(AdmissionRefusal::Full { limit });
        }
        let ahead = queue.ahead_of(level);
        let limit = if ahead.jobs == 0 { None } else { queue.level(level).map(|limits| limits.max_wait) };
        let limit = limit.and_then(|limit| self.forecast.max_wait(limit, now));
        let left = newcomer.deadline.map(|deadline| deadline.saturating_duration_since(now));
        let admitted = Admitted { predicted: left.is_some() };
        let part = self.fill[level.min(self.fill.len() - 1)].part;
        // Next to always there is so much time that nothing needs to be predicted.
        let pieces = newcomer.rows / newcomer.job_rows.max(1);
        let at_most = self.forecast.at_most(ahead.jobs.saturating_add(pieces));
        let fits = |limit: Option<Duration>, part: f64| limit.is_none_or(|limit| at_most < nanoseconds(limit) * part);
        if fits(limit, MAX_FILL) && fits(left, part) {
            return Ok(admitted);
        }
        let lane = LaneState { max_rows: queue.max_rows(), instances: self.instances, is_idle, now };
        let Prediction { wait, answer, margin } = self.forecast.predict(newcomer, ahead, &lane);
        if let Some(limit) = limit
            && wait > limit.mul_f64(MAX_FILL)
        {
            return Err(AdmissionRefusal::QueueTime { wait, limit });
        }
        match left {
            Some(left) if answer + margin > left.mul_f64(part) => Err(AdmissionRefusal::Late { wait, answer, left }),
            _ => Ok(admitted),
        }
    }

    /// A newcomer was refused.
    pub(super) fn refused(&mut self, level: usize, refusal: &AdmissionRefusal, now: Instant) {
        if matches!(refusal, AdmissionRefusal::Late { .. }) {
            self.fill_of(level).refused(now);
        }
    }

    /// Jobs left the queue without a run.
    pub(super) fn dropped<J>(&mut self, dropped: &[Dropped<J>], now: Instant) {
        for Dropped { why, waiting } in dropped {
            if *why == Rejection::Deadline && waiting.predicted {
                self.fill_of(waiting.level).missed(waiting.arrived, now);
            }
        }
    }

    /// The next batch, for an instance that is free, with its run for [`Admission::ended`].
    pub(super) fn take<J: Cancel>(
        &mut self,
        queue: &mut Queue<J>,
        now: Instant,
    ) -> (NextStep<J>, Vec<Dropped<J>>, Option<AdmittedRun>) {
        let (next, dropped) = queue.take(now, &self.forecast);
        self.dropped(&dropped, now);
        let NextStep::Run(batch) = &next else { return (next, dropped, None) };
        let rows = batch.iter().fold(0usize, |rows, waiting| rows.saturating_add(waiting.rows));
        let predicted = batch.iter().filter(|waiting| waiting.predicted);
        let predicted = predicted.filter_map(|waiting| Some((waiting.deadline?, waiting.level, waiting.arrived)));
        let jobs = predicted.collect();
        let ready = batch.iter().map(|waiting| waiting.arrived).min().unwrap_or(now) + queue.max_delay();
        let is_full = queue.max_rows() <= 1 || queue.has_due(now, &self.forecast);
        let begun = self.forecast.begins(now, rows, ready, is_full, self.instances);
        (next, dropped, Some(AdmittedRun { begun, jobs }))
    }

    /// A run has ended, of which nothing is learned.
    pub(super) fn forget(&mut self, run: &AdmittedRun) {
        self.forecast.forget(run.begun);
    }

    /// A run was stopped before it had ended.
    pub(super) fn stopped(&mut self, run: &AdmittedRun, now: Instant) {
        self.forecast.stopped(run.begun, now);
    }

    /// A run has ended.
    pub(super) fn ended(&mut self, run: AdmittedRun, now: Instant) {
        self.forecast.ended(run.begun, now);
        for (deadline, level, arrived) in run.jobs {
            let fill = self.fill_of(level);
            if deadline < now { fill.missed(arrived, now) } else { fill.succeeded(now) }
        }
    }

    fn fill_of(&mut self, level: usize) -> &mut Fill {
        let last = self.fill.len() - 1;
        &mut self.fill[level.min(last)]
    }
}

impl Fill {
    /// A job that was predicted to be in time is late.
    fn missed(&mut self, arrived: Instant, now: Instant) {
        self.last_miss = Some(now);
        self.owed = (self.owed + OWED_PER_MISS).min(MAX_OWED);
        if self.cut.is_none_or(|cut| cut < arrived) {
            self.cut = Some(now);
            self.part = (self.part - CUT).max(self.least);
        }
    }

    /// A newcomer was refused.
    fn refused(&mut self, now: Instant) {
        if self.is_calm(now) {
            self.owed = 0;
        }
        self.last_refusal = Some(now);
        if self.part > MAX_FILL_OF_OVERLOAD {
            self.part = (self.part - LOSS).max(MAX_FILL_OF_OVERLOAD);
        } else if self.owed > 0 {
            self.owed -= 1;
        } else {
            self.part = (self.part + GAIN).min(MAX_FILL_OF_OVERLOAD);
        }
    }

    /// A job that was predicted to be in time was.
    fn succeeded(&mut self, now: Instant) {
        if is_within(self.last_refusal, OVERLOAD_REMEMBERED, now) {
            return;
        }
        if self.part < MAX_FILL_OF_OVERLOAD {
            self.part = (self.part + GAIN_AFTER_OVERLOAD).min(MAX_FILL_OF_OVERLOAD);
        } else if self.is_calm(now) {
            self.part = (self.part + GAIN_BY_SUCCESS).min(MAX_FILL);
        }
    }

    fn is_calm(&self, now: Instant) -> bool {
        !is_within(self.last_miss, MISSES_REMEMBERED, now)
    }
}

/// True if something happened no longer ago than `time`.
fn is_within(happened: Option<Instant>, time: Duration, now: Instant) -> bool {
    happened.is_some_and(|at| now.saturating_duration_since(at) <= time)
}

#[cfg(test)]
mod tests;
