//! The queue policy: which waiting jobs run next, together. Pure: time comes as an argument, there are no threads and no
//! tensors, and property tests hold its promises.
//!
//! Jobs lie in one line for each key, and an index orders the lines, so that a push and a take cost the logarithm of the
//! number of lines, however many shapes wait.

mod index;
mod line;

use smallvec::{SmallVec, smallvec};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::forecast::{Backlog, Forecast};
use crate::{config::QueueTime, metrics::Rejection};
use index::Lines;
use line::Line;

/// What jobs must have in common to run together, beyond the model's signature: the extents of the inputs' variable inner
/// axes. Empty, and then costs no memory, for models that have none.
pub(super) type Key = Box<[usize]>;

/// How a queue behaves.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// Rows of a batch at most.
    pub max_rows: usize,
    /// Jobs at most that wait before a newcomer: those of its priority level and of higher ones.
    pub max_jobs: usize,
    /// How long the first of a batch may wait for others while an instance is free.
    pub max_delay: Duration,
    /// One for each priority level, the highest first; at least one.
    pub levels: Arc<[LevelLimits]>,
}

/// The limits of one priority level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LevelLimits {
    /// Jobs of the level that wait at most, beside the limit of the whole queue.
    pub max_jobs: usize,
    /// How long a job may wait.
    pub max_wait: QueueTime,
}

/// A waiting job with what the policy needs to know of it.
#[derive(Debug)]
pub(super) struct Waiting<J> {
    pub key: Key,
    pub rows: usize,
    /// Index of its priority level; 0 is the highest.
    pub level: usize,
    pub arrived: Instant,
    pub deadline: Option<Instant>,
    /// Whether it is a later piece of a request, and waits for the pieces before it.
    pub is_rest: bool,
    /// Its place in the order of arrival, which the queue gives it.
    pub number: u64,
    /// Whether it was admitted because its answer was predicted to be in time.
    pub predicted: bool,
    pub job: J,
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Next<J> {
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
pub(super) struct Dropped<J> {
    pub why: Rejection,
    pub waiting: Waiting<J>,
}

/// A job whose waiter may have gone.
pub(super) trait Cancel {
    /// Whether nobody waits for the answer any more.
    fn is_cancelled(&self) -> bool;
}

/// Waiting jobs.
#[derive(Debug)]
pub(super) struct Queue<J> {
    limits: Limits,
    lines: Lines<J>,
    total: Backlog,
    /// Those of each priority level.
    levels: SmallVec<[Backlog; 1]>,
    /// Number of the next job: the order of arrival.
    next_number: u64,
    /// A full queue is not searched for dead jobs again before this.
    next_search: Option<Instant>,
}

/// The limits of the time in the queue as they are at an instant: worked out once for all jobs that are looked at.
struct Patience {
    now: Instant,
    /// The arrival before which a job of each priority level has waited too long; `None` where it may wait for ever.
    oldest_arrival: SmallVec<[Option<Instant>; 1]>,
}

/// A batch that takes no more than one of so many parts of the time that its jobs have left may always grow.
const BATCH_SHARE: u32 = 4;

/// Pause between two searches of a full queue for dead jobs, for each job in it. A search takes about a fiftieth of it.
const SEARCH_PAUSE_PER_JOB: Duration = Duration::from_micros(1);

impl<J: Cancel> Queue<J> {
    pub(super) fn new(limits: Limits) -> Self {
        let levels = smallvec![Backlog::default(); limits.levels.len().max(1)];
        Queue { limits, lines: Lines::new(), total: Backlog::default(), levels, next_number: 0, next_search: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.total.jobs == 0
    }

    /// All that wait.
    pub(super) fn total(&self) -> Backlog {
        self.total
    }

    /// Rows of a batch at most.
    pub(super) fn max_rows(&self) -> usize {
        self.limits.max_rows
    }

    /// How long the first of a batch may wait for others.
    pub(super) fn max_delay(&self) -> Duration {
        self.limits.max_delay
    }

    /// Whether one more batch is due.
    pub(super) fn has_due(&mut self, now: Instant, forecast: &Forecast) -> bool {
        matches!(self.lines.next(now, &self.limits, forecast), index::Due::Now(_))
    }

    /// The limits of a priority level.
    pub(super) fn level(&self, level: usize) -> Option<&LevelLimits> {
        self.limits.levels.get(level)
    }

    /// What runs before a newcomer of that level.
    pub(super) fn ahead_of(&self, level: usize) -> Backlog {
        if self.levels.len() == 1 {
            return self.total;
        }
        self.levels.iter().take(level + 1).fold(Backlog::default(), |mut sum, of_level| {
            sum.add(of_level.jobs, of_level.rows);
            sum
        })
    }

    /// The limit that refuses a newcomer of that level: as many jobs as may wait before it.
    pub(super) fn is_full(&self, level: usize) -> Option<usize> {
        let of_level = self.level(level).map_or(usize::MAX, |limits| limits.max_jobs);
        if self.ahead_of(level).jobs >= self.limits.max_jobs {
            return Some(self.limits.max_jobs);
        }
        (self.levels.get(level).is_some_and(|waiting| waiting.jobs >= of_level)).then_some(of_level)
    }

    /// Appends the jobs of one request. The caller has asked [`Queue::is_full`]: jobs of one request are let in while there is
    /// room for one of them, so that no request is too large to be ever let in. `predicted`: see [`Waiting::predicted`].
    pub(super) fn push(&mut self, jobs: impl IntoIterator<Item = Waiting<J>>, predicted: bool, forecast: &Forecast) {
        for mut job in jobs {
            job.predicted = predicted;
            job.level = job.level.min(self.levels.len() - 1);
            job.number = self.next_number;
            self.next_number += 1;
            self.total.add(1, job.rows);
            self.levels[job.level].add(1, job.rows);
            let line = self.lines.of(&job.key, &self.limits, forecast);
            let has_delay = !self.limits.max_delay.is_zero();
            self.lines.line_mut(line).push(job, self.levels.len(), has_delay);
            self.lines.place(line, &self.limits, forecast);
        }
    }

    /// The next batch for an instance that is free at `now`, and the jobs that were dropped on the way: those that nobody
    /// waits for, that have waited too long, or whose answer would come after their deadline.
    pub(super) fn take(&mut self, now: Instant, forecast: &Forecast) -> (Next<J>, Vec<Dropped<J>>) {
        let mut dropped = Vec::new();
        let patience = Patience::new(now, &self.limits, forecast);
        // Its time is unknown rather than too long: where nothing is tried, no estimate is ever mended.
        let is_alone = self.total.jobs == 1;
        loop {
            let line = match self.lines.next(now, &self.limits, forecast) {
                index::Due::Now(line) => line,
                index::Due::At(line, until) => {
                    // A line whose first jobs are dead may be due later, or never.
                    if self.drop_dead_heads(line, &patience, forecast, &mut dropped) {
                        continue;
                    }
                    return (Next::WaitUntil(until), dropped);
                }
                index::Due::Never => return (Next::Idle, dropped),
            };
            if self.drop_dead_heads(line, &patience, forecast, &mut dropped) {
                continue;
            }
            let batch = self.gather(line, &patience, forecast, is_alone, &mut dropped);
            self.lines.place(line, &self.limits, forecast);
            // Clients go at any moment: all that were there for the first look may be gone at the second.
            if !batch.is_empty() {
                return (Next::Run(batch), dropped);
            }
        }
    }

    /// Drops every job that need not run. A full queue is searched only now and then, so that refusals stay cheap.
    pub(super) fn drop_dead(&mut self, now: Instant, forecast: &Forecast) -> Vec<Dropped<J>> {
        if self.next_search.is_some_and(|next| now < next) {
            return Vec::new();
        }
        let jobs = u32::try_from(self.total.jobs).unwrap_or(u32::MAX);
        self.next_search = now.checked_add(SEARCH_PAUSE_PER_JOB.saturating_mul(jobs));
        let mut dropped = Vec::new();
        let patience = Patience::new(now, &self.limits, forecast);
        for id in self.lines.ids() {
            let before = dropped.len();
            self.lines.line_mut(id).drop_if(|job| job.reason_to_drop(&patience), &mut dropped);
            if dropped.len() > before {
                self.lines.place(id, &self.limits, forecast);
            }
        }
        dropped.iter().for_each(|dropped| self.left(&dropped.waiting));
        dropped
    }

    /// Drops dead jobs from the front of every level of a line. Whether there were some.
    fn drop_dead_heads(
        &mut self,
        id: usize,
        patience: &Patience,
        forecast: &Forecast,
        dropped: &mut Vec<Dropped<J>>,
    ) -> bool {
        let before = dropped.len();
        for level in 0..self.levels.len() {
            while let Some(head) = self.lines.line(id).front_of(level)
                && let Some(why) = head.reason_to_drop(patience)
            {
                let Some(waiting) = self.lines.line_mut(id).pop_of(level) else { break };
                self.left(&waiting);
                dropped.push(Dropped { why, waiting });
            }
        }
        let any = dropped.len() > before;
        if any {
            self.lines.place(id, &self.limits, forecast);
        }
        any
    }

    /// Takes the jobs of a line that fit into a batch, from the first on, and leaves the others in their order. A batch grows
    /// only as far as every job in it is answered in time; a job that would be late even alone is dropped.
    fn gather(
        &mut self,
        id: usize,
        patience: &Patience,
        forecast: &Forecast,
        is_alone: bool,
        dropped: &mut Vec<Dropped<J>>,
    ) -> Vec<Waiting<J>> {
        let now = patience.now;
        let most = self.lines.line(id).len().min(self.limits.max_rows.max(1));
        let mut batch: Vec<Waiting<J>> = Vec::with_capacity(most);
        let mut rows = 0usize;
        let mut earliest: Option<Instant> = None;
        let enough = forecast.enough_rows();
        while let Some(next) = self.lines.line(id).front() {
            let mut why = next.reason_to_drop(patience);
            if why.is_none() && !batch.is_empty() && rows.saturating_add(next.rows) > self.limits.max_rows {
                // Later ones that would fit don't overtake it.
                break;
            }
            if let Some(deadline) = next.deadline.filter(|_| !is_alone)
                && ends_after(deadline, now, forecast.run(next.rows))
            {
                why = why.or(Some(Rejection::Deadline));
            }
            let soonest = earliest.into_iter().chain(next.deadline).min();
            if why.is_none()
                && !batch.is_empty()
                && let Some(soonest) = soonest
            {
                let takes = forecast.longest_run(rows.saturating_add(next.rows));
                // Short runs have their price too, which no regression over the rows shows.
                let is_enough = rows >= enough && ends_after(soonest, now, takes.saturating_mul(BATCH_SHARE));
                if is_enough || ends_after(soonest, now, takes) {
                    break;
                }
            }
            let Some(waiting) = self.lines.line_mut(id).pop() else { break };
            self.left(&waiting);
            match why {
                Some(why) => dropped.push(Dropped { why, waiting }),
                None => {
                    rows = rows.saturating_add(waiting.rows);
                    earliest = soonest;
                    batch.push(waiting);
                    if rows >= self.limits.max_rows {
                        break;
                    }
                }
            }
        }
        batch
    }

    /// Takes out all jobs.
    pub(super) fn drain(&mut self) -> Vec<Waiting<J>> {
        let mut jobs = Vec::new();
        for id in self.lines.ids() {
            jobs.extend(std::iter::from_fn(|| self.lines.line_mut(id).pop()));
        }
        *self = Queue::new(self.limits.clone());
        jobs
    }

    /// Counts a job that is in no line any more.
    fn left(&mut self, job: &Waiting<J>) {
        self.total.subtract(job.rows);
        self.levels[job.level].subtract(job.rows);
    }
}

/// Whether what takes so long from `now` on ends after an instant.
fn ends_after(instant: Instant, now: Instant, takes: Duration) -> bool {
    instant.saturating_duration_since(now) < takes
}

impl Patience {
    fn new(now: Instant, limits: &Limits, forecast: &Forecast) -> Self {
        let oldest_arrival = |level: &LevelLimits| {
            let max_wait = forecast.max_wait(level.max_wait, now)?;
            // To wait for others to join is what the model's settings ask for.
            now.checked_sub(max_wait.saturating_add(limits.max_delay))
        };
        Patience { now, oldest_arrival: limits.levels.iter().map(oldest_arrival).collect() }
    }
}

#[cfg(test)]
impl<J> Waiting<J> {
    /// A job of one row without a deadline, which may run with all others of its kind.
    pub(super) fn lone(arrived: Instant, job: J) -> Self {
        let (key, deadline) = (Key::default(), None);
        Waiting { key, rows: 1, level: 0, arrived, deadline, is_rest: false, number: 0, predicted: false, job }
    }
}

impl<J: Cancel> Waiting<J> {
    /// Whether the deadline has passed.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Whether a run would help nobody.
    pub(super) fn is_dead(&self, now: Instant) -> bool {
        self.is_late(now) || self.job.is_cancelled()
    }

    /// Why a run would help nobody, or comes too late.
    fn reason_to_drop(&self, patience: &Patience) -> Option<Rejection> {
        if self.is_late(patience.now) {
            return Some(Rejection::Deadline);
        }
        if self.job.is_cancelled() {
            return Some(Rejection::Cancelled);
        }
        let oldest = patience.oldest_arrival.get(self.level).copied().flatten()?;
        (!self.is_rest && self.arrived < oldest).then_some(Rejection::QueueTime)
    }
}

#[cfg(test)]
mod tests;
