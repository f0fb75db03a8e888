//! Answers on their way out: counted, and known to their connection until they are written.

use axum::http::Extensions;
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::{
    budget::{Share, guarded},
    limits::Limits,
};

/// The answers of one connection that are not written yet: its requests carry it as an extension. HTTP/2 takes an answer at
/// once and keeps it for as long as the client grants no window, which nothing else shows.
#[derive(Debug, Default)]
pub struct Unwritten {
    /// By when each has to be written.
    deadlines: Mutex<BTreeMap<u64, Instant>>,
}

impl Unwritten {
    /// Whether every answer is written.
    pub fn is_empty(&self) -> bool {
        self.deadlines().is_empty()
    }

    /// Whether one should have been written by now.
    pub fn is_overdue(&self, now: Instant) -> bool {
        self.deadlines().values().any(|deadline| *deadline <= now)
    }

    fn deadlines(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.deadlines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer's place among them.
struct Place {
    unwritten: Arc<Unwritten>,
    number: u64,
}

impl Place {
    fn take(unwritten: &Arc<Unwritten>, deadline: Instant) -> Self {
        let mut deadlines = unwritten.deadlines();
        let number = deadlines.last_key_value().map_or(0, |(last, _)| last + 1);
        deadlines.insert(number, deadline);
        drop(deadlines);
        Place { unwritten: unwritten.clone(), number }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.unwritten.deadlines().remove(&self.number);
    }
}

/// The bytes of an answer, counted until they are written. `request` are the extensions of what they answer. Nothing is
/// refused here: the work is done, and who asks next finds less room.
pub(super) fn outgoing(data: impl Into<Bytes>, request: &Extensions, limits: &Limits) -> Bytes {
    let data = data.into();
    let mut share = Share::new(&limits.budget);
    share.add(data.len());
    let deadline = Instant::now() + limits.patience(limits.write_timeout, data.len());
    let place = request.get::<Arc<Unwritten>>().map(|unwritten| Place::take(unwritten, deadline));
    guarded(data, (share, place))
}
