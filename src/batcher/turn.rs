//! The turns of I/O threads: what a thread has read in one turn it runs at the turn's end, itself.
//!
//! For a model that runs in less time than it takes to wake another thread, that is cheaper, and requests that came together
//! become one batch. How long a thread runs models before it reads again is bounded.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Notify, task::yield_now};

use super::{Batcher, Place};
use crate::per_thread;

/// How long a thread runs models before it looks for what clients send: while it runs, connections wait. A model whose
/// batches take longer does not run there.
pub const LONGEST: Duration = Duration::from_micros(100);

thread_local! {
    static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
    static DUE: RefCell<Due> = RefCell::default();
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
        while let Some(batcher) = DUE.with_borrow_mut(|due| due.batchers.pop_front()) {
            batcher.drive_guarded(Place::Here(number));
            if Instant::now() >= until {
                break;
            }
        }
        if DUE.with_borrow(|due| !due.batchers.is_empty()) {
            changed.notify_one();
        }
    }
}

/// The number of this thread, if it is one that takes turns.
pub(super) fn this_thread() -> Option<usize> {
    NUMBER.get()
}

/// Drives the batcher at the end of this thread's turn.
pub(super) fn schedule(batcher: &Arc<Batcher>) {
    DUE.with_borrow_mut(|due| {
        due.batchers.push_back(batcher.clone());
        due.changed.notify_one();
    });
}
