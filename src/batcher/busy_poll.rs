//! Busy polling: an I/O thread that has answered a lone request looks for the next one for a little before it rests. To be
//! woken up takes a CPU that rests longer than to serve a small model, so a client that asks again at once is answered in half
//! the time, for no more CPU time.
//!
//! It pays only where the next request comes that soon and nobody else wants the CPU, so both are watched.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::{sync::Notify, task::yield_now};

use super::inline;

/// A look takes about a microsecond. One after which so much time has passed has let somebody else have the CPU.
const HELD_UP: Duration = Duration::from_micros(20);

/// Who has had the CPU for so long has work for more: a load, or another process.
const AT_WORK: Duration = Duration::from_millis(1);

/// Requests after which a thread rests at once where others are at work. One that rests gets the CPU as soon as a request comes; one
/// that looks has offered it to them, and a request that comes then waits for milliseconds.
const OTHERS_WORK: u32 = 2 * REST;

/// After failures in a row, a thread rests at once for at most so many requests before it tries again.
const REST: u32 = 1024;

thread_local! {
    static THREAD: Thread = Thread::default();
}

/// What an I/O thread keeps of it.
#[derive(Default)]
struct Thread {
    looking: Cell<bool>,
    /// Whether a lone request has come since the last look.
    came: Cell<bool>,
    patience: RefCell<Patience>,
    answered: Arc<Notify>,
}

/// Whether looking is worth it, by how it went. Pure.
#[derive(Debug, Default)]
struct Patience {
    /// Requests after which the thread rests at once.
    rests: u32,
    /// What that was after the last failure; 0 after a success.
    rested: u32,
}

impl Patience {
    /// Whether to look after a request.
    fn lasts(&mut self) -> bool {
        let lasts = self.rests == 0;
        self.rests = self.rests.saturating_sub(1);
        lasts
    }

    fn paid(&mut self) {
        self.rested = 0;
    }

    fn failed(&mut self) {
        self.rested = (self.rested * 2).clamp(1, REST);
        self.rests = self.rested;
    }

    /// Others are at work.
    fn held_up(&mut self) {
        self.rests = OTHERS_WORK;
    }
}

/// Has the thread that polls this look for so long for what comes next. Belongs onto an I/O thread's runtime, once; never ends.
pub async fn busy_poll(longest: Duration) {
    let answered = THREAD.with(|thread| thread.answered.clone());
    loop {
        answered.notified().await;
        THREAD.with(|thread| {
            // One that came when the last look had ended paid nothing.
            thread.came.set(false);
            thread.looking.set(true);
        });
        look(longest).await;
        THREAD.with(|thread| thread.looking.set(false));
    }
}

/// Looks until no lone request has come for so long, somebody else wants the CPU, or several requests come at once.
async fn look(longest: Duration) {
    let mut last = Instant::now();
    let mut until = last + longest;
    while !inline::is_crowded() {
        inline::begin();
        // Whoever waits for the CPU gets it now, if it is of this control group.
        thread::yield_now();
        // Before a request that has come meanwhile is answered, which would make it look as if that had paid.
        if last.elapsed() > AT_WORK {
            return THREAD.with(|thread| thread.patience.borrow_mut().held_up());
        }
        yield_now().await;
        let now = Instant::now();
        if THREAD.with(|thread| thread.came.replace(false)) {
            THREAD.with(|thread| thread.patience.borrow_mut().paid());
            until = now + longest;
        } else if !inline::is_crowded() && (now >= until || now - last > HELD_UP) {
            return THREAD.with(|thread| thread.patience.borrow_mut().failed());
        }
        last = now;
    }
}

/// A lone request has come to this thread, and is answered now.
pub(super) fn lone_request() {
    THREAD.with(|thread| {
        if thread.looking.get() {
            thread.came.set(true);
        } else if thread.patience.borrow_mut().lasts() {
            thread.answered.notify_one();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of so many requests, after how many a thread looks where looking goes as told.
    fn looks(patience: &mut Patience, requests: usize, pays: bool) -> usize {
        let mut looks = 0;
        for _ in 0..requests {
            if patience.lasts() {
                looks += 1;
                if pays { patience.paid() } else { patience.failed() }
            }
        }
        looks
    }

    #[test]
    fn a_thread_looks_where_that_pays_and_seldom_where_not() {
        let mut patience = Patience::default();
        assert_eq!(looks(&mut patience, 1000, true), 1000);
        assert!(looks(&mut patience, 100_000, false) < 120);
        assert!(looks(&mut patience, 2000, true) > 900, "it finds out that it pays again");
        assert_eq!(looks(&mut patience, 1000, true), 1000);
        // One miss costs one rest.
        patience.failed();
        assert_eq!(looks(&mut patience, 1000, true), 999);
    }

    #[test]
    fn a_thread_rests_for_long_where_others_want_the_cpu() {
        let mut patience = Patience::default();
        patience.held_up();
        assert_eq!(looks(&mut patience, 2000, true), 0);
        assert!(looks(&mut patience, 2000, true) > 1900, "it finds out that they have gone");
    }
}
