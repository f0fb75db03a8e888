//! The turns of I/O threads: what a thread has read in one turn it runs at the turn's end, itself.
//!
//! For a model that runs in less time than it takes to wake another thread, that is cheaper, and requests that came together
//! become one batch. A request that is alone does not wait for the turn's end. How long a thread runs models before it reads
//! again is bounded.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Notify, task::yield_now};

use super::{Batcher, Place, busy_poll};
use crate::per_thread;

/// How long a thread runs models before it looks for what clients send: while it runs, connections wait. A model whose
/// batches take longer does not run there.
pub const LONGEST: Duration = Duration::from_micros(100);

/// A thread that had several requests in a turn is taken to have several until it had so many turns with one.
const CROWDED: u32 = 16;

thread_local! {
    static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
    static DUE: RefCell<Due> = RefCell::default();
    /// Whether no request has come since the thread last waited.
    static FRESH: Cell<bool> = const { Cell::new(false) };
    /// Turns for which the thread is taken to have several requests.
    static CROWDED_FOR: Cell<u32> = const { Cell::new(0) };
}

/// What a thread has to drive at the end of its turn.
#[derive(Default)]
struct Due {
    batchers: VecDeque<Arc<Batcher>>,
    changed: Arc<Notify>,
}

/// Has the thread that polls this run the models of what it reads, as I/O thread `number`. Belongs onto the thread's runtime,
/// which runs on one thread, once; never ends.
pub async fn take_turns(number: usize) {
    NUMBER.set(Some(number));
    per_thread::enter(number);
    let changed = DUE.with_borrow(|due| due.changed.clone());
    loop {
        changed.notified().await;
        // Connections that have something to read go first; it joins the batch.
        yield_now().await;
        let until = Instant::now() + LONGEST;
        let mut requests = 0;
        while let Some(batcher) = DUE.with_borrow_mut(|due| due.batchers.pop_front()) {
            requests += batcher.drive_guarded(Place::Here(number));
            if Instant::now() >= until {
                break;
            }
        }
        let unfinished = DUE.with_borrow(|due| !due.batchers.is_empty());
        if unfinished {
            changed.notify_one();
        }
        let crowded = unfinished || requests > 1;
        CROWDED_FOR.set(if crowded { CROWDED } else { CROWDED_FOR.get().saturating_sub(1) });
    }
}

/// The number of this thread, if it is one that takes turns.
pub(super) fn this_thread() -> Option<usize> {
    NUMBER.get()
}

/// A turn begins: the thread has waited for something to happen, and something has.
pub fn begin() {
    FRESH.set(true);
}

/// Whether a request that has come is likely to be the turn's only one. There is nothing to wait for then: it is run at once,
/// which saves the way through the turn's end. Where it was not, those that come after it are run together at the turn's end,
/// and so are all in the next turns.
pub(super) fn is_lone() -> bool {
    let fresh = FRESH.replace(false);
    if !fresh {
        CROWDED_FOR.set(CROWDED);
    }
    let lone = fresh && !is_crowded();
    if lone {
        busy_poll::lone_request();
    }
    lone
}

/// Whether this thread has several requests in a turn.
pub(super) fn is_crowded() -> bool {
    CROWDED_FOR.get() > 0
}

/// Drives the batcher at the end of this thread's turn.
pub(super) fn schedule(batcher: &Arc<Batcher>) {
    DUE.with_borrow_mut(|due| {
        due.batchers.push_back(batcher.clone());
        due.changed.notify_one();
    });
}
