//! The waiting jobs of one key, in order of priority level and arrival.

use smallvec::SmallVec;
use std::{
    collections::{BTreeSet, VecDeque},
    time::Instant,
};

use super::waiting::{BatchKey, Dropped, QueueLimits, Waiting, ends_after};
use crate::{batcher::forecast::Forecast, metrics::Rejection};

/// Jobs that may run together.
#[derive(Debug)]
pub(super) struct KeyQueue<J> {
    pub(super) key: BatchKey,
    /// By priority level.
    levels: SmallVec<[VecDeque<Waiting<J>>; 1]>,
    jobs: usize,
    rows: usize,
    /// Deadlines of its jobs, each with the job's number. Kept only where a batch may wait for more jobs.
    deadlines: BTreeSet<(Instant, u64)>,
}

impl<J> KeyQueue<J> {
    pub(super) fn new(key: BatchKey) -> Self {
        KeyQueue { key, levels: SmallVec::new(), jobs: 0, rows: 0, deadlines: BTreeSet::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.jobs
    }

    pub(super) fn push(&mut self, job: Waiting<J>, levels: usize, has_delay: bool) {
        if self.levels.len() < levels {
            self.levels.resize_with(levels, VecDeque::new);
        }
        self.jobs += 1;
        self.rows = self.rows.saturating_add(job.rows);
        if let Some(deadline) = job.deadline.filter(|_| has_delay) {
            self.deadlines.insert((deadline, job.number));
        }
        self.levels[job.level].push_back(job);
    }

    /// The first job: the oldest of the highest level.
    pub(super) fn front(&self) -> Option<&Waiting<J>> {
        self.first().and_then(|level| self.front_of(level))
    }

    /// The oldest job of a level.
    pub(super) fn front_of(&self, level: usize) -> Option<&Waiting<J>> {
        self.levels.get(level)?.front()
    }

    /// The place of its first job in the order of all jobs.
    pub(super) fn rank(&self) -> Option<(usize, u64)> {
        let level = self.first()?;
        self.levels[level].front().map(|job| (level, job.number))
    }

    pub(super) fn pop(&mut self) -> Option<Waiting<J>> {
        self.first().and_then(|level| self.pop_of(level))
    }

    pub(super) fn pop_of(&mut self, level: usize) -> Option<Waiting<J>> {
        let job = self.levels.get_mut(level)?.pop_front()?;
        self.left(&job);
        Some(job)
    }

    /// Moves the jobs that there is a reason to drop.
    pub(super) fn drop_if(&mut self, reason: impl Fn(&Waiting<J>) -> Option<Rejection>, dropped: &mut Vec<Dropped<J>>) {
        for level in 0..self.levels.len() {
            for waiting in std::mem::take(&mut self.levels[level]) {
                match reason(&waiting) {
                    None => self.levels[level].push_back(waiting),
                    Some(why) => {
                        self.left(&waiting);
                        dropped.push(Dropped { why, waiting });
                    }
                }
            }
        }
    }

    /// The instant until which its next batch should wait for more jobs; `None`: it is due.
    pub(super) fn due(&self, limits: &QueueLimits, forecast: &Forecast) -> Option<Instant> {
        if limits.max_delay.is_zero() || self.rows >= limits.max_rows {
            return None;
        }
        let oldest = self.levels.iter().filter_map(|level| level.front()).map(|job| job.arrived).min()?;
        let until = oldest.checked_add(limits.max_delay)?;
        // A job that would be late gains nothing by waiting.
        let is_hasty = |(deadline, _): &(Instant, u64)| {
            *deadline <= until || ends_after(*deadline, until, forecast.longest_run(self.rows))
        };
        (!self.deadlines.first().is_some_and(is_hasty)).then_some(until)
    }

    /// The highest level that has jobs.
    fn first(&self) -> Option<usize> {
        self.levels.iter().position(|level| !level.is_empty())
    }

    fn left(&mut self, job: &Waiting<J>) {
        self.jobs -= 1;
        self.rows = if self.jobs == 0 { 0 } else { self.rows.saturating_sub(job.rows) };
        if let Some(deadline) = job.deadline.filter(|_| !self.deadlines.is_empty()) {
            self.deadlines.remove(&(deadline, job.number));
        }
    }
}
