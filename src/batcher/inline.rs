//! Inline runs: an I/O thread runs the requests that it has read in one turn at the turn's end, itself.
//!
//! For a model that runs in less time than it takes to wake another thread, that is cheaper, and requests that came together
//! become one batch. A request that is alone does not wait for the turn's end. How long a thread runs models before it reads
//! again is bounded.

use std::{cell::RefCell, collections::VecDeque, sync::Arc, time::Instant};
use tokio::{sync::Notify, task::yield_now};

use super::{io_thread, run_time_ewma::MAX_INLINE_TIME, schedulable::Schedulable, sync::thread_local};
pub(super) use io_thread::is_lone_request;

thread_local! {
    static DUE: RefCell<DueAtTurnEnd> = RefCell::default();
}

/// Batchers to drive at the end of a thread's turn.
#[derive(Default)]
struct DueAtTurnEnd {
    batchers: VecDeque<Arc<dyn Schedulable>>,
    changed: Arc<Notify>,
}

/// Has the thread that polls this run the models of what it reads, as I/O thread `number`. Belongs onto the thread's runtime,
/// which runs on one thread, once; never ends.
pub async fn run_inline(number: usize) {
    io_thread::enter(number);
    let changed = DUE.with(|due| due.borrow().changed.clone());
    loop {
        changed.notified().await;
        // Connections that have something to read go first; it joins the batch.
        yield_now().await;
        let until = Instant::now() + MAX_INLINE_TIME;
        let mut requests = 0;
        while let Some(batcher) = DUE.with(|due| due.borrow_mut().batchers.pop_front()) {
            requests += batcher.drive_inline(number);
            if Instant::now() >= until {
                break;
            }
        }
        let unfinished = DUE.with(|due| !due.borrow().batchers.is_empty());
        if unfinished {
            changed.notify_one();
        }
        io_thread::end_turn(unfinished || requests > 1);
    }
}

/// Drives the batcher at the end of this thread's turn.
pub(super) fn schedule(batcher: Arc<dyn Schedulable>) {
    DUE.with(|due| {
        let mut due = due.borrow_mut();
        due.batchers.push_back(batcher);
        due.changed.notify_one();
    });
}
