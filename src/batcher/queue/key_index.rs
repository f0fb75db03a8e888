//! Index of the queues of all keys, ordered by what is due next.

use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

use super::{
    key_queue::KeyQueue,
    waiting::{BatchKey, QueueLimits},
};
use crate::batcher::forecast::Forecast;

/// The key that is next.
#[derive(Debug)]
pub(super) enum Due {
    /// Its batch runs now.
    Now(usize),
    /// None runs now; this is the first that will, at this instant.
    At(usize, Instant),
    /// Nothing waits.
    Never,
}

/// KeyIndex by their number.
///
/// While there is one key, as for every model whose shapes are fixed, nothing is indexed: it is the sole queue, and stays
/// when it is empty, with its memory. Otherwise every queue has jobs and stands in the index.
#[derive(Debug)]
pub(super) struct KeyIndex<J> {
    slots: Vec<KeySlot<J>>,
    /// Numbers of slots that are not in use.
    free: Vec<usize>,
    sole: Option<usize>,
    by_key: HashMap<BatchKey, usize>,
    /// KeyIndex whose batch runs now, by the place of their first job in the order of all jobs.
    ready: BTreeSet<((usize, u64), usize)>,
    /// KeyIndex whose batch waits for more jobs, by when it stops waiting.
    timed: BTreeSet<(Instant, usize)>,
}

#[derive(Debug)]
struct KeySlot<J> {
    queue: KeyQueue<J>,
    entry: IndexEntry,
}

/// Entry of a queue in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IndexEntry {
    None,
    Ready((usize, u64)),
    Timed(Instant),
}

/// Free slots that keep the memory of their queue.
const MAX_WARM_SLOTS: usize = 16;

/// True if two keys are equal. To compare empty ones byte by byte takes long on processors that do it by masked reads, since
/// there is no memory behind them.
fn is_same(one: &BatchKey, other: &BatchKey) -> bool {
    one.len() == other.len() && (one.is_empty() || one == other)
}

impl<J> KeyIndex<J> {
    pub(super) fn new() -> Self {
        let slot = KeySlot { queue: KeyQueue::new(BatchKey::default()), entry: IndexEntry::None };
        KeyIndex {
            slots: vec![slot],
            free: Vec::new(),
            sole: Some(0),
            by_key: HashMap::new(),
            ready: BTreeSet::new(),
            timed: BTreeSet::new(),
        }
    }

    pub(super) fn queue(&self, id: usize) -> &KeyQueue<J> {
        &self.slots[id].queue
    }

    pub(super) fn queue_mut(&mut self, id: usize) -> &mut KeyQueue<J> {
        &mut self.slots[id].queue
    }

    /// Every queue that has jobs.
    pub(super) fn ids(&self) -> Vec<usize> {
        (0..self.slots.len()).filter(|id| self.queue(*id).len() > 0).collect()
    }

    /// The queue of a key, which is made where there is none. The caller adds a job to it.
    pub(super) fn of(&mut self, key: &BatchKey, limits: &QueueLimits, forecast: &Forecast) -> usize {
        if let Some(sole) = self.sole {
            let queue = self.queue_mut(sole);
            if is_same(&queue.key, key) {
                return sole;
            }
            if queue.len() == 0 {
                queue.key = key.clone();
                return sole;
            }
            self.sole = None;
            self.by_key.insert(self.queue(sole).key.clone(), sole);
            self.update(sole, limits, forecast);
        }
        if let Some(id) = self.by_key.get(key) {
            return *id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(KeySlot { queue: KeyQueue::new(BatchKey::default()), entry: IndexEntry::None });
            self.slots.len() - 1
        });
        self.queue_mut(id).key = key.clone();
        self.by_key.insert(key.clone(), id);
        id
    }

    /// Brings the index up to date after a change of a queue.
    pub(super) fn update(&mut self, id: usize, limits: &QueueLimits, forecast: &Forecast) {
        if self.sole.is_some() {
            return;
        }
        let queue = self.queue(id);
        let entry = match (queue.rank(), queue.due(limits, forecast)) {
            (None, _) => IndexEntry::None,
            (Some(rank), None) => IndexEntry::Ready(rank),
            (Some(_), Some(until)) => IndexEntry::Timed(until),
        };
        self.move_to(id, entry);
        if entry == IndexEntry::None {
            self.release(id);
        }
    }

    /// The queue that is next at `now`.
    pub(super) fn next(&mut self, now: Instant, limits: &QueueLimits, forecast: &Forecast) -> Due {
        if let Some(sole) = self.sole {
            let queue = self.queue(sole);
            return match queue.due(limits, forecast) {
                _ if queue.len() == 0 => Due::Never,
                Some(until) if until > now => Due::At(sole, until),
                _ => Due::Now(sole),
            };
        }
        while let Some(&(until, id)) = self.timed.first()
            && until <= now
        {
            let rank = self.queue(id).rank();
            self.move_to(id, rank.map_or(IndexEntry::None, IndexEntry::Ready));
        }
        match (self.ready.first(), self.timed.first()) {
            (Some(&(_, id)), _) => Due::Now(id),
            (None, Some(&(until, id))) => Due::At(id, until),
            (None, None) => Due::Never,
        }
    }

    fn move_to(&mut self, id: usize, entry: IndexEntry) {
        let before = std::mem::replace(&mut self.slots[id].entry, entry);
        if before == entry {
            return;
        }
        match before {
            IndexEntry::None => {}
            IndexEntry::Ready(rank) => _ = self.ready.remove(&(rank, id)),
            IndexEntry::Timed(until) => _ = self.timed.remove(&(until, id)),
        }
        match entry {
            IndexEntry::None => {}
            IndexEntry::Ready(rank) => _ = self.ready.insert((rank, id)),
            IndexEntry::Timed(until) => _ = self.timed.insert((until, id)),
        }
    }

    /// Gives up a queue that is empty. Of two queues the other becomes the sole one.
    fn release(&mut self, id: usize) {
        let key = std::mem::take(&mut self.queue_mut(id).key);
        self.by_key.remove(&key);
        if self.free.len() >= MAX_WARM_SLOTS {
            self.slots[id].queue = KeyQueue::new(BatchKey::default());
        }
        self.free.push(id);
        if self.by_key.len() == 1 {
            let Some(sole) = self.by_key.drain().map(|(_, id)| id).next() else { return };
            self.move_to(sole, IndexEntry::None);
            self.sole = Some(sole);
        }
    }
}
