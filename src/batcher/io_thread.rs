//! Turns of an I/O thread: its number, and the requests that it has in a turn.

use std::cell::Cell;

use super::sync::thread_local;
use crate::per_thread;

/// Turns with one request until a thread that had several in a turn is taken to have one again.
const CROWDED_TURNS: u32 = 16;

thread_local! {
    static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
    /// True if no request has come since the thread last waited.
    static FRESH: Cell<bool> = const { Cell::new(false) };
    /// Turns for which the thread is taken to have several requests.
    static CROWDED_FOR: Cell<u32> = const { Cell::new(0) };
    /// Function to call at each lone request.
    static ON_LONE_REQUEST: Cell<Option<fn()>> = const { Cell::new(None) };
}

/// Makes the present thread the I/O thread of this number.
pub(super) fn enter(number: usize) {
    NUMBER.with(|own| own.set(Some(number)));
    per_thread::enter(number);
}

/// The number of this thread, if it is an I/O thread.
pub(super) fn number() -> Option<usize> {
    NUMBER.with(Cell::get)
}

/// Registers the begin of a turn: the thread has waited for something to happen, and something has.
pub fn begin_turn() {
    FRESH.with(|fresh| fresh.set(true));
}

/// Registers the end of a turn that had several requests, or one at most.
pub(super) fn end_turn(crowded: bool) {
    CROWDED_FOR.with(|turns| turns.set(if crowded { CROWDED_TURNS } else { turns.get().saturating_sub(1) }));
}

/// Registers a request, and returns true if it is likely to be the turn's only one. There is nothing to wait for then: it is run
/// at once, which saves the way through the turn's end. Where it was not, those that come after it are run together at the
/// turn's end, and so are all in the next turns.
pub(super) fn is_lone_request() -> bool {
    let fresh = FRESH.with(|fresh| fresh.replace(false));
    if !fresh {
        CROWDED_FOR.with(|turns| turns.set(CROWDED_TURNS));
    }
    let lone = fresh && !is_crowded();
    if lone && let Some(call) = ON_LONE_REQUEST.with(Cell::get) {
        call();
    }
    lone
}

/// True if this thread has several requests in a turn.
pub(super) fn is_crowded() -> bool {
    CROWDED_FOR.with(Cell::get) > 0
}

/// Sets a function to call on this thread at each lone request.
pub(super) fn on_lone_request(call: fn()) {
    ON_LONE_REQUEST.with(|own| own.set(Some(call)));
}
