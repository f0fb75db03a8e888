//! The queue for compute slots: it decides which batcher runs next. Pure: the time and the expected run times are arguments, and property
//! tests hold its promises.
//!
//! First come, first served, but for one case. The first in the queue may need more slots than are free, beside a run that takes
//! long. Then a batcher behind it that fits may pass, if its run is expected to take no longer than that run has taken so far:
//! a run that has gone on for long is likely to go on for as long again. Only runs that began before the first in the queue got
//! stuck count. So it waits for at most twice the longest run, and short runs never stand still beside a long one.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The expected run time of a batcher that has not run yet.
const UNKNOWN_RUN_TIME: Duration = Duration::from_millis(100);

/// The number of a run that holds slots.
pub(super) type RunId = u64;

/// Batchers that wait for slots, and the runs that hold some.
#[derive(Debug)]
pub(super) struct SlotQueue<T> {
    waiting: VecDeque<SlotRequest<T>>,
    /// In the order of their beginnings.
    running: Vec<SlotRun>,
    next_run: RunId,
    slots: usize,
    /// Slots that runs hold.
    held: usize,
    /// The first run that began after the first in the queue got stuck.
    stuck: Option<RunId>,
}

#[derive(Debug)]
struct SlotRequest<T> {
    item: T,
    slots: usize,
}

#[derive(Debug)]
struct SlotRun {
    run: RunId,
    began: Instant,
    slots: usize,
}

/// The next step of a free thread.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextRun<T> {
    /// Runs this, which holds slots until [`SlotQueue::end`].
    Run(T, RunId),
    /// Waits until something comes or ends, or until this instant.
    Wait(Option<Instant>),
}

impl<T> SlotQueue<T> {
    /// A queue without slots.
    pub(super) fn new() -> Self {
        SlotQueue { waiting: VecDeque::new(), running: Vec::new(), next_run: 0, slots: 0, held: 0, stuck: None }
    }

    /// Adds a slot.
    pub(super) fn add_slot(&mut self) {
        self.slots += 1;
    }

    /// Takes a slot away. Runs that hold it have it until they end.
    pub(super) fn remove_slot(&mut self) {
        self.slots = self.slots.saturating_sub(1);
    }

    /// Appends an item whose run takes so many slots.
    pub(super) fn push(&mut self, item: T, slots: usize) {
        self.waiting.push_back(SlotRequest { item, slots });
    }

    /// True if a thread may find something to run.
    pub(super) fn has_work(&self) -> bool {
        self.free() > 0 && !self.waiting.is_empty()
    }

    /// Forgets what waits.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// The next item to run.
    pub(super) fn next(&mut self, now: Instant, expected: impl Fn(&T) -> Option<Duration>) -> NextRun<T> {
        let Some(first) = self.waiting.front() else {
            self.stuck = None;
            return NextRun::Wait(None);
        };
        let free = self.free();
        if self.need(first) <= free {
            self.stuck = None;
            return self.take(0, now);
        }
        let stuck = *self.stuck.get_or_insert(self.next_run);
        let longest = self.running.first().filter(|longest| longest.run < stuck && free > 0);
        let Some(began) = longest.map(|longest| longest.began) else { return NextRun::Wait(None) };
        let age = now.saturating_duration_since(began);
        let mut soonest: Option<Duration> = None;
        for (index, entry) in self.waiting.iter().enumerate().skip(1) {
            if self.need(entry) > free {
                continue;
            }
            let expected = expected(&entry.item).unwrap_or(UNKNOWN_RUN_TIME);
            if expected <= age {
                return self.take(index, now);
            }
            soonest = Some(soonest.map_or(expected, |soonest| soonest.min(expected)));
        }
        NextRun::Wait(soonest.and_then(|expected| began.checked_add(expected)))
    }

    /// Gives the slots of a run back. False if that was done already.
    pub(super) fn end(&mut self, run: RunId) -> bool {
        let Some(index) = self.running.iter().position(|running| running.run == run) else { return false };
        self.held -= self.running.remove(index).slots;
        true
    }

    fn take(&mut self, index: usize, now: Instant) -> NextRun<T> {
        let Some(entry) = self.waiting.remove(index) else { return NextRun::Wait(None) };
        let (slots, run) = (self.need(&entry), self.next_run);
        self.next_run += 1;
        self.held += slots;
        self.running.push(SlotRun { run, began: now, slots });
        NextRun::Run(entry.item, run)
    }

    fn free(&self) -> usize {
        self.slots.saturating_sub(self.held)
    }

    /// Slots that an entry takes: there may be fewer than it would use.
    fn need(&self, entry: &SlotRequest<T>) -> usize {
        entry.slots.clamp(1, self.slots.max(1))
    }
}

#[cfg(test)]
mod tests;
