//! The policy: which waiting jobs run next, together. Pure: time comes as an argument, there are no threads and no tensors,
//! and property tests hold its promises.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// What jobs must have in common to run together, beyond the model's signature: the extents of the inputs' variable inner
/// axes. Empty, and then costs no memory, for models that have none.
pub(super) type Key = Box<[usize]>;

/// How a queue behaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Rows of a batch at most.
    pub max_rows: usize,
    /// Jobs waiting at most.
    pub max_jobs: usize,
    /// How long the first of a batch may wait for others while an instance is free.
    pub max_delay: Duration,
}

/// A waiting job with what the policy needs to know of it.
#[derive(Debug)]
pub(super) struct Waiting<J> {
    pub key: Key,
    pub rows: usize,
    pub arrived: Instant,
    pub deadline: Option<Instant>,
    pub job: J,
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Next<J> {
    /// Run these as one batch. They are in order of arrival, have one key, and at most `max_rows` rows (a job that alone has
    /// more runs alone).
    Run(Vec<Waiting<J>>),
    /// Ask again then, or when more has come.
    WaitUntil(Instant),
    /// Nothing waits.
    Idle,
}

/// What came of a push.
#[derive(Debug)]
pub(super) struct Pushed<J> {
    /// Whether the request is in the queue now.
    pub accepted: bool,
    /// Jobs that made room, because nobody wants them any more.
    pub dropped: Vec<Waiting<J>>,
}

/// A job whose waiter may have gone.
pub(super) trait Cancel {
    /// Whether nobody waits for the answer any more.
    fn is_cancelled(&self) -> bool;
}

/// Jobs in order of arrival.
#[derive(Debug)]
pub(super) struct Queue<J> {
    limits: Limits,
    waiting: VecDeque<Waiting<J>>,
    /// Of all that wait. Those of inputs that take no memory can be more than can be counted: it wraps.
    rows: usize,
}

impl<J: Cancel> Queue<J> {
    pub(super) fn new(limits: Limits) -> Self {
        Queue { limits, waiting: VecDeque::new(), rows: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Jobs that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Rows that wait.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Appends the jobs of one request, all or none: none where the queue is full of jobs that are still wanted. Jobs of one
    /// request are let in while there is room for one of them, so that no request is too large to be ever let in.
    pub(super) fn push(&mut self, request: impl IntoIterator<Item = Waiting<J>>, now: Instant) -> Pushed<J> {
        let is_full = |queue: &Self| queue.waiting.len() >= queue.limits.max_jobs;
        let dropped = if is_full(self) { self.drop_dead(now) } else { Vec::new() };
        let accepted = !is_full(self);
        if accepted {
            for job in request {
                self.rows = self.rows.wrapping_add(job.rows);
                self.waiting.push_back(job);
            }
        }
        Pushed { accepted, dropped }
    }

    /// The next batch for an instance that is free at `now`, and the jobs that were dropped on the way because their deadline
    /// has passed or nobody waits for them.
    pub(super) fn take(&mut self, now: Instant) -> (Next<J>, Vec<Waiting<J>>) {
        let mut dropped = Vec::new();
        while self.waiting.front().is_some_and(|job| job.is_dead(now)) {
            dropped.extend(self.pop());
        }
        loop {
            match self.first_due(now) {
                None => {
                    // Whatever is left has gone since.
                    dropped.extend(self.drop_dead(now));
                    return (Next::Idle, dropped);
                }
                Some(Err(until)) => return (Next::WaitUntil(until), dropped),
                Some(Ok(key)) => {
                    let batch = self.gather(&key, now, &mut dropped);
                    // Clients go at any moment: all that were there for the first look may be gone at the second.
                    if !batch.is_empty() {
                        return (Next::Run(batch), dropped);
                    }
                }
            }
        }
    }

    /// The key of the first batch that should run now, or when the first of them will be due; `None`: nothing waits. A batch
    /// that waits for more does not hold up those of other keys.
    fn first_due(&self, now: Instant) -> Option<Result<Key, Instant>> {
        let mut keys: Vec<&Key> = Vec::new();
        let mut soonest: Option<Instant> = None;
        for job in self.waiting.iter().filter(|job| !job.is_dead(now)) {
            if keys.contains(&&job.key) {
                continue;
            }
            let Some(until) = self.wait_until(job, now) else { return Some(Ok(job.key.clone())) };
            soonest = Some(soonest.map_or(until, |soonest| soonest.min(until)));
            keys.push(&job.key);
        }
        soonest.map(Err)
    }

    /// Until when the batch that `first` begins should wait for more; `None`: run it now.
    fn wait_until(&self, first: &Waiting<J>, now: Instant) -> Option<Instant> {
        let until = first.arrived + self.limits.max_delay;
        if until <= now {
            return None;
        }
        let mut rows = 0;
        for job in self.waiting.iter().filter(|job| job.key == first.key) {
            rows += job.rows;
            // Full, or a job would be late: nothing is gained by waiting.
            if rows >= self.limits.max_rows || job.deadline.is_some_and(|deadline| deadline <= until) {
                return None;
            }
        }
        Some(until)
    }

    /// Takes the jobs of a key that fit into a batch, from the first on, and leaves the others in their order.
    fn gather(&mut self, key: &Key, now: Instant, dropped: &mut Vec<Waiting<J>>) -> Vec<Waiting<J>> {
        let most = self.waiting.len().min(self.limits.max_rows.max(1));
        let mut batch: Vec<Waiting<J>> = Vec::with_capacity(most);
        let mut rows = 0;
        let mut passed = Vec::new();
        while let Some(job) = self.pop() {
            if job.is_dead(now) {
                dropped.push(job);
            } else if job.key != *key {
                passed.push(job);
            } else if batch.is_empty() || rows + job.rows <= self.limits.max_rows {
                rows += job.rows;
                batch.push(job);
                if rows >= self.limits.max_rows {
                    break;
                }
            } else {
                // Later ones that would fit don't overtake it.
                self.put_back(job);
                break;
            }
        }
        for job in passed.into_iter().rev() {
            self.put_back(job);
        }
        batch
    }

    /// Takes out all jobs.
    pub(super) fn drain(&mut self) -> Vec<Waiting<J>> {
        self.rows = 0;
        self.waiting.drain(..).collect()
    }

    fn drop_dead(&mut self, now: Instant) -> Vec<Waiting<J>> {
        let (dead, alive) = self.waiting.drain(..).partition::<Vec<_>, _>(|job| job.is_dead(now));
        self.waiting = alive.into();
        self.rows = dead.iter().fold(self.rows, |rows, job| rows.wrapping_sub(job.rows));
        dead
    }

    fn pop(&mut self) -> Option<Waiting<J>> {
        let job = self.waiting.pop_front()?;
        self.rows = self.rows.wrapping_sub(job.rows);
        Some(job)
    }

    fn put_back(&mut self, job: Waiting<J>) {
        self.rows = self.rows.wrapping_add(job.rows);
        self.waiting.push_front(job);
    }
}

impl<J: Cancel> Waiting<J> {
    /// Whether running it would help nobody.
    pub(super) fn is_dead(&self, now: Instant) -> bool {
        self.is_late(now) || self.job.is_cancelled()
    }

    /// Whether its deadline has passed.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

#[cfg(test)]
mod tests;
