//! The lines of a queue, ordered by what is due next.

use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

use super::{Forecast, Key, Limits, Line};

/// The line that is next.
#[derive(Debug)]
pub(super) enum Due {
    /// Its batch runs now.
    Now(usize),
    /// None runs now; this is the first that will, at this instant.
    At(usize, Instant),
    /// Nothing waits.
    Never,
}

/// Lines by their number.
///
/// While there is one line, as for every model whose shapes are fixed, nothing is indexed: it is the sole line, and stays
/// when it is empty, with its memory. Otherwise every line has jobs and stands in the index.
#[derive(Debug)]
pub(super) struct Lines<J> {
    slots: Vec<Slot<J>>,
    /// Numbers of slots that are not in use.
    free: Vec<usize>,
    sole: Option<usize>,
    by_key: HashMap<Key, usize>,
    /// Lines whose batch runs now, by the place of their first job in the order of all jobs.
    ready: BTreeSet<((usize, u64), usize)>,
    /// Lines whose batch waits for more jobs, by when it stops waiting.
    timed: BTreeSet<(Instant, usize)>,
}

#[derive(Debug)]
struct Slot<J> {
    line: Line<J>,
    place: Place,
}

/// Where a line stands in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    None,
    Ready((usize, u64)),
    Timed(Instant),
}

/// Free slots that keep the memory of their line.
const MAX_WARM_SLOTS: usize = 16;

/// Whether two keys are equal. To compare empty ones byte by byte takes long on processors that do it by masked reads, since
/// there is no memory behind them.
fn is_same(one: &Key, other: &Key) -> bool {
    one.len() == other.len() && (one.is_empty() || one == other)
}

impl<J> Lines<J> {
    pub(super) fn new() -> Self {
        let slot = Slot { line: Line::new(Key::default()), place: Place::None };
        Lines {
            slots: vec![slot],
            free: Vec::new(),
            sole: Some(0),
            by_key: HashMap::new(),
            ready: BTreeSet::new(),
            timed: BTreeSet::new(),
        }
    }

    pub(super) fn line(&self, id: usize) -> &Line<J> {
        &self.slots[id].line
    }

    pub(super) fn line_mut(&mut self, id: usize) -> &mut Line<J> {
        &mut self.slots[id].line
    }

    /// Every line that has jobs.
    pub(super) fn ids(&self) -> Vec<usize> {
        (0..self.slots.len()).filter(|id| self.line(*id).len() > 0).collect()
    }

    /// The line of a key, which is made where there is none. The caller adds a job to it.
    pub(super) fn of(&mut self, key: &Key, limits: &Limits, forecast: &Forecast) -> usize {
        if let Some(sole) = self.sole {
            let line = self.line_mut(sole);
            if is_same(&line.key, key) {
                return sole;
            }
            if line.len() == 0 {
                line.key = key.clone();
                return sole;
            }
            self.sole = None;
            self.by_key.insert(self.line(sole).key.clone(), sole);
            self.place(sole, limits, forecast);
        }
        if let Some(id) = self.by_key.get(key) {
            return *id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { line: Line::new(Key::default()), place: Place::None });
            self.slots.len() - 1
        });
        self.line_mut(id).key = key.clone();
        self.by_key.insert(key.clone(), id);
        id
    }

    /// Brings the index up to date after a change of a line.
    pub(super) fn place(&mut self, id: usize, limits: &Limits, forecast: &Forecast) {
        if self.sole.is_some() {
            return;
        }
        let line = self.line(id);
        let place = match (line.rank(), line.due(limits, forecast)) {
            (None, _) => Place::None,
            (Some(rank), None) => Place::Ready(rank),
            (Some(_), Some(until)) => Place::Timed(until),
        };
        self.move_to(id, place);
        if place == Place::None {
            self.release(id);
        }
    }

    /// The line that is next at `now`.
    pub(super) fn next(&mut self, now: Instant, limits: &Limits, forecast: &Forecast) -> Due {
        if let Some(sole) = self.sole {
            let line = self.line(sole);
            return match line.due(limits, forecast) {
                _ if line.len() == 0 => Due::Never,
                Some(until) if until > now => Due::At(sole, until),
                _ => Due::Now(sole),
            };
        }
        while let Some(&(until, id)) = self.timed.first()
            && until <= now
        {
            let rank = self.line(id).rank();
            self.move_to(id, rank.map_or(Place::None, Place::Ready));
        }
        match (self.ready.first(), self.timed.first()) {
            (Some(&(_, id)), _) => Due::Now(id),
            (None, Some(&(until, id))) => Due::At(id, until),
            (None, None) => Due::Never,
        }
    }

    fn move_to(&mut self, id: usize, place: Place) {
        let before = std::mem::replace(&mut self.slots[id].place, place);
        if before == place {
            return;
        }
        match before {
            Place::None => {}
            Place::Ready(rank) => _ = self.ready.remove(&(rank, id)),
            Place::Timed(until) => _ = self.timed.remove(&(until, id)),
        }
        match place {
            Place::None => {}
            Place::Ready(rank) => _ = self.ready.insert((rank, id)),
            Place::Timed(until) => _ = self.timed.insert((until, id)),
        }
    }

    /// Gives up a line that is empty. Of two lines the other becomes the sole one.
    fn release(&mut self, id: usize) {
        let key = std::mem::take(&mut self.line_mut(id).key);
        self.by_key.remove(&key);
        if self.free.len() >= MAX_WARM_SLOTS {
            self.slots[id].line = Line::new(Key::default());
        }
        self.free.push(id);
        if self.by_key.len() == 1 {
            let Some(sole) = self.by_key.drain().map(|(_, id)| id).next() else { return };
            self.move_to(sole, Place::None);
            self.sole = Some(sole);
        }
    }
}
