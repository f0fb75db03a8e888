//! The queue of a lane: admits jobs, drops dead ones, and gathers batches.

use smallvec::{SmallVec, smallvec};
use std::time::{Duration, Instant};

use super::{
    key_index::{Due, KeyIndex},
    waiting::{Cancel, Dropped, LevelLimits, NextStep, QueueLimits, WaitLimits, Waiting, ends_after},
};
use crate::{
    batcher::forecast::{Backlog, Forecast},
    metrics::Rejection,
};

/// Waiting jobs.
#[derive(Debug)]
pub(in crate::batcher) struct Queue<J> {
    limits: QueueLimits,
    keys: KeyIndex<J>,
    total: Backlog,
    /// Jobs of each priority level.
    levels: SmallVec<[Backlog; 1]>,
    /// Number of the next job: the order of arrival.
    next_number: u64,
    /// A full queue is not searched for dead jobs again before this.
    next_search: Option<Instant>,
}

/// A batch may always grow that takes no more than one of so many parts of the time that its jobs have left.
const BATCH_SHARE: u32 = 4;

/// Pause between two searches of a full queue for dead jobs, for each job in it. A search takes about a fiftieth of it.
const SEARCH_PAUSE_PER_JOB: Duration = Duration::from_micros(1);

impl<J: Cancel> Queue<J> {
    pub(in crate::batcher) fn new(limits: QueueLimits) -> Self {
        let levels = smallvec![Backlog::default(); limits.levels.len().max(1)];
        Queue { limits, keys: KeyIndex::new(), total: Backlog::default(), levels, next_number: 0, next_search: None }
    }

    pub(in crate::batcher) fn is_empty(&self) -> bool {
        self.total.jobs == 0
    }

    /// All that wait.
    pub(in crate::batcher) fn total(&self) -> Backlog {
        self.total
    }

    /// Rows of a batch at most.
    pub(in crate::batcher) fn max_rows(&self) -> usize {
        self.limits.max_rows
    }

    /// Time that the first of a batch may wait for others.
    pub(in crate::batcher) fn max_delay(&self) -> Duration {
        self.limits.max_delay
    }

    /// True if one more batch is due.
    pub(in crate::batcher) fn has_due(&mut self, now: Instant, forecast: &Forecast) -> bool {
        matches!(self.keys.next(now, &self.limits, forecast), Due::Now(_))
    }

    /// The limits of a priority level.
    pub(in crate::batcher) fn level(&self, level: usize) -> Option<&LevelLimits> {
        self.limits.levels.get(level)
    }

    /// Jobs that run before a newcomer of that level.
    pub(in crate::batcher) fn ahead_of(&self, level: usize) -> Backlog {
        if self.levels.len() == 1 {
            return self.total;
        }
        self.levels.iter().take(level + 1).fold(Backlog::default(), |mut sum, of_level| {
            sum.add(of_level.jobs, of_level.rows);
            sum
        })
    }

    /// The limit that refuses a newcomer of that level: as many jobs as may wait before it.
    pub(in crate::batcher) fn is_full(&self, level: usize) -> Option<usize> {
        let of_level = self.level(level).map_or(usize::MAX, |limits| limits.max_jobs);
        if self.ahead_of(level).jobs >= self.limits.max_jobs {
            return Some(self.limits.max_jobs);
        }
        (self.levels.get(level).is_some_and(|waiting| waiting.jobs >= of_level)).then_some(of_level)
    }

    /// Appends the jobs of one request. The caller has asked [`Queue::is_full`]: jobs of one request are let in while there is
    /// room for one of them, so that no request is too large to be ever let in. `predicted`: see [`Waiting::predicted`].
    pub(in crate::batcher) fn push(
        &mut self,
        jobs: impl IntoIterator<Item = Waiting<J>>,
        predicted: bool,
        forecast: &Forecast,
    ) {
        for mut job in jobs {
            job.predicted = predicted;
            job.level = job.level.min(self.levels.len() - 1);
            job.number = self.next_number;
            self.next_number += 1;
            self.total.add(1, job.rows);
            self.levels[job.level].add(1, job.rows);
            let id = self.keys.of(&job.key, &self.limits, forecast);
            let has_delay = !self.limits.max_delay.is_zero();
            self.keys.queue_mut(id).push(job, self.levels.len(), has_delay);
            self.keys.update(id, &self.limits, forecast);
        }
    }

    /// The next batch for an instance that is free at `now`, and the jobs that were dropped on the way: those that nobody
    /// waits for, that have waited too long, or whose answer would come after their deadline.
    pub(in crate::batcher) fn take(&mut self, now: Instant, forecast: &Forecast) -> (NextStep<J>, Vec<Dropped<J>>) {
        let mut dropped = Vec::new();
        let wait_limits = WaitLimits::new(now, &self.limits, forecast);
        // Its time is unknown rather than too long: where nothing is tried, no estimate is ever mended.
        let is_alone = self.total.jobs == 1;
        loop {
            let id = match self.keys.next(now, &self.limits, forecast) {
                Due::Now(id) => id,
                Due::At(id, until) => {
                    // A queue whose first jobs are dead may be due later, or never.
                    if self.drop_dead_heads(id, &wait_limits, forecast, &mut dropped) {
                        continue;
                    }
                    return (NextStep::WaitUntil(until), dropped);
                }
                Due::Never => return (NextStep::Idle, dropped),
            };
            if self.drop_dead_heads(id, &wait_limits, forecast, &mut dropped) {
                continue;
            }
            let batch = self.gather(id, &wait_limits, forecast, is_alone, &mut dropped);
            self.keys.update(id, &self.limits, forecast);
            // Clients go at any moment: all that were there for the first look may be gone at the second.
            if !batch.is_empty() {
                return (NextStep::Run(batch), dropped);
            }
        }
    }

    /// Drops every job that need not run. A full queue is searched only now and then, so that refusals stay cheap.
    pub(in crate::batcher) fn drop_dead(&mut self, now: Instant, forecast: &Forecast) -> Vec<Dropped<J>> {
        if self.next_search.is_some_and(|next| now < next) {
            return Vec::new();
        }
        let jobs = u32::try_from(self.total.jobs).unwrap_or(u32::MAX);
        self.next_search = now.checked_add(SEARCH_PAUSE_PER_JOB.saturating_mul(jobs));
        let mut dropped = Vec::new();
        let wait_limits = WaitLimits::new(now, &self.limits, forecast);
        for id in self.keys.ids() {
            let before = dropped.len();
            self.keys.queue_mut(id).drop_if(|job| job.reason_to_drop(&wait_limits), &mut dropped);
            if dropped.len() > before {
                self.keys.update(id, &self.limits, forecast);
            }
        }
        dropped.iter().for_each(|dropped| self.left(&dropped.waiting));
        dropped
    }

    /// Drops dead jobs from the front of every level of a key's queue. True if there were some.
    fn drop_dead_heads(
        &mut self,
        id: usize,
        wait_limits: &WaitLimits,
        forecast: &Forecast,
        dropped: &mut Vec<Dropped<J>>,
    ) -> bool {
        let before = dropped.len();
        for level in 0..self.levels.len() {
            while let Some(head) = self.keys.queue(id).front_of(level)
                && let Some(why) = head.reason_to_drop(wait_limits)
            {
                let Some(waiting) = self.keys.queue_mut(id).pop_of(level) else { break };
                self.left(&waiting);
                dropped.push(Dropped { why, waiting });
            }
        }
        let any = dropped.len() > before;
        if any {
            self.keys.update(id, &self.limits, forecast);
        }
        any
    }

    /// Takes the jobs of a key that fit into a batch, from the first on, and leaves the others in their order. A batch grows
    /// only as far as every job in it is answered in time; a job that would be late even alone is dropped.
    fn gather(
        &mut self,
        id: usize,
        wait_limits: &WaitLimits,
        forecast: &Forecast,
        is_alone: bool,
        dropped: &mut Vec<Dropped<J>>,
    ) -> Vec<Waiting<J>> {
        let now = wait_limits.now;
        let capacity = self.keys.queue(id).len().min(self.limits.max_rows.max(1));
        let mut batch: Vec<Waiting<J>> = Vec::with_capacity(capacity);
        let mut rows = 0usize;
        let mut earliest: Option<Instant> = None;
        let enough = forecast.enough_rows();
        while let Some(next) = self.keys.queue(id).front() {
            let mut why = next.reason_to_drop(wait_limits);
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
            let Some(waiting) = self.keys.queue_mut(id).pop() else { break };
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
    pub(in crate::batcher) fn drain(&mut self) -> Vec<Waiting<J>> {
        let mut jobs = Vec::new();
        for id in self.keys.ids() {
            jobs.extend(std::iter::from_fn(|| self.keys.queue_mut(id).pop()));
        }
        *self = Queue::new(self.limits.clone());
        jobs
    }

    /// Counts a job that has left its key's queue.
    fn left(&mut self, job: &Waiting<J>) {
        self.total.subtract(job.rows);
        self.levels[job.level].subtract(job.rows);
    }
}
