//! Busy polling: an I/O thread that has answered a lone request polls for the next one for a little before it sleeps. To wake a
//! CPU that sleeps takes longer than to serve a small model, so a client that asks again at once is answered in half the time,
//! for no more CPU time.
//!
//! It pays only where the next request comes that soon and nobody else wants the CPU, so both are watched. [`busy_poll`] is the
//! only door: without this file nothing else changes.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::{sync::Notify, task::yield_now};

use super::io_thread;

/// Time of one poll, which takes about a microsecond, from which on somebody else has had the CPU.
const HELD_UP: Duration = Duration::from_micros(20);

/// Time of one poll from which on whoever has had the CPU has work for more: a load, or another process.
const AT_WORK: Duration = Duration::from_millis(1);

/// Requests after which a thread sleeps at once where others are at work. One that sleeps gets the CPU as soon as a request comes;
/// one that polls has offered it to them, and a request that comes then waits for milliseconds.
const PAUSE_FOR_OTHERS: u32 = 2 * MAX_PAUSE;

/// Requests after which a thread sleeps at once after failures in a row, at most, before it tries again.
const MAX_PAUSE: u32 = 1024;

thread_local! {
    static THREAD: BusyPollState = BusyPollState::default();
}

/// State of busy polling on an I/O thread.
#[derive(Default)]
struct BusyPollState {
    polling: Cell<bool>,
    /// True if a lone request has come since the last poll.
    received: Cell<bool>,
    backoff: RefCell<Backoff>,
    answered: Arc<Notify>,
}

/// Successes in a row after which failures are forgotten. A client that sends on and on gives that many at once. Short bursts
/// and requests that come by chance do not, and polling for them costs more CPU time than it saves.
const SUCCESSES_TO_FORGET: u32 = 8;

/// Decides after which requests polling is worth it, by how it went. Pure.
#[derive(Debug, Default)]
struct Backoff {
    /// Requests after which the thread sleeps at once.
    pause: u32,
    /// The pause after the last failure; 0 once failures are forgotten.
    last_pause: u32,
    /// Successes since the last failure.
    successes: u32,
}

impl Backoff {
    /// True if the thread polls after this request.
    fn polls(&mut self) -> bool {
        let polls = self.pause == 0;
        self.pause = self.pause.saturating_sub(1);
        polls
    }

    fn succeeded(&mut self) {
        self.successes = self.successes.saturating_add(1);
        if self.successes >= SUCCESSES_TO_FORGET {
            self.last_pause = 0;
        }
    }

    fn failed(&mut self) {
        self.successes = 0;
        self.last_pause = (self.last_pause * 2).clamp(1, MAX_PAUSE);
        self.pause = self.last_pause;
    }

    /// Others are at work.
    fn held_up(&mut self) {
        self.successes = 0;
        self.pause = PAUSE_FOR_OTHERS;
    }
}

/// Has the I/O thread that awaits this poll for so long for the next request. Belongs onto the thread's runtime, once; never ends.
pub async fn busy_poll(longest: Duration) {
    io_thread::on_lone_request(lone_request);
    let answered = THREAD.with(|thread| thread.answered.clone());
    loop {
        answered.notified().await;
        THREAD.with(|thread| {
            // One that came when the last polling had ended paid nothing.
            thread.received.set(false);
            thread.polling.set(true);
        });
        poll(longest).await;
        THREAD.with(|thread| thread.polling.set(false));
    }
}

/// Polls until no lone request has come for so long, somebody else wants the CPU, or several requests come at once.
async fn poll(longest: Duration) {
    let mut last = Instant::now();
    let mut until = last + longest;
    while !io_thread::is_crowded() {
        io_thread::begin_turn();
        // Threads of this control group that wait for the CPU get it now.
        thread::yield_now();
        // Before a request that has come meanwhile is answered, which would make it look as if that had paid.
        if last.elapsed() > AT_WORK {
            return THREAD.with(|thread| thread.backoff.borrow_mut().held_up());
        }
        yield_now().await;
        let now = Instant::now();
        if THREAD.with(|thread| thread.received.replace(false)) {
            THREAD.with(|thread| thread.backoff.borrow_mut().succeeded());
            until = now + longest;
        } else if !io_thread::is_crowded() && (now >= until || now - last > HELD_UP) {
            return THREAD.with(|thread| thread.backoff.borrow_mut().failed());
        }
        last = now;
    }
}

/// Registers a lone request, which is answered now.
fn lone_request() {
    THREAD.with(|thread| {
        if thread.polling.get() {
            thread.received.set(true);
        } else if thread.backoff.borrow_mut().polls() {
            thread.answered.notify_one();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number of requests, of so many, after which a thread polls where polling pays or not.
    fn polls(backoff: &mut Backoff, requests: usize, pays: bool) -> usize {
        let mut polls = 0;
        for _ in 0..requests {
            if backoff.polls() {
                polls += 1;
                if pays { backoff.succeeded() } else { backoff.failed() }
            }
        }
        polls
    }

    #[test]
    fn backoff_polls_often_only_while_polling_pays() {
        let mut backoff = Backoff::default();
        assert_eq!(polls(&mut backoff, 1000, true), 1000);
        assert!(polls(&mut backoff, 100_000, false) < 120);
        assert!(polls(&mut backoff, 2000, true) > 900, "it finds out that it pays again");
        assert_eq!(polls(&mut backoff, 1000, true), 1000);
        // One miss costs one pause.
        backoff.failed();
        assert_eq!(polls(&mut backoff, 1000, true), 999);
    }

    #[test]
    fn backoff_seldom_polls_where_every_third_poll_fails() {
        let mut backoff = Backoff::default();
        let polled: usize = (0..100_000).map(|request| polls(&mut backoff, 1, request % 3 != 0)).sum();
        assert!(polled < 1000, "{polled}");
    }

    #[test]
    fn backoff_pauses_long_when_the_cpu_is_contended() {
        let mut backoff = Backoff::default();
        backoff.held_up();
        assert_eq!(polls(&mut backoff, 2000, true), 0);
        assert!(polls(&mut backoff, 2000, true) > 1900, "it finds out that they have gone");
    }
}
