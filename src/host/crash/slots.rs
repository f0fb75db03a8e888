//! Slots with the activity of each thread, readable by a signal handler: in static memory, without locks.

use std::{
    cell::Cell,
    sync::atomic::{
        AtomicU64, AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    },
};

/// Threads that have a slot, at most. Those beyond are not recorded.
const MAX_SLOTS: usize = 512;

/// Bytes of a text at most.
pub(super) const MAX_TEXT: usize = 256;

const MAX_WORDS: usize = MAX_TEXT / size_of::<u64>();

/// Activity of one thread. Only that thread writes it. A handler may read it on another thread during a write, and gets a mixture
/// then.
#[repr(align(128))]
pub(super) struct ActivitySlot {
    /// Identifier of the activity that the text belongs to.
    id: AtomicU64,
    /// The phase; 0: no activity.
    phase: AtomicU64,
    length: AtomicUsize,
    text: [AtomicU64; MAX_WORDS],
}

static SLOTS: [ActivitySlot; MAX_SLOTS] = [const { ActivitySlot::new() }; MAX_SLOTS];
static USED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The index of this thread's slot plus one; 0: none yet; `usize::MAX`: there is none left. Without a destructor, so that a
    /// handler may read it at any time.
    static OWN: Cell<usize> = const { Cell::new(0) };
}

/// The slot of this thread, which it gets with the first call. Threads that end keep theirs: those that run models live as long
/// as the process.
pub(super) fn of_this_thread() -> Option<&'static ActivitySlot> {
    if OWN.get() == 0 {
        OWN.set(USED.fetch_add(1, Relaxed).checked_add(1).filter(|number| *number <= MAX_SLOTS).unwrap_or(usize::MAX));
    }
    existing()
}

/// The slot that this thread has, if any.
pub(super) fn existing() -> Option<&'static ActivitySlot> {
    SLOTS.get(OWN.get().checked_sub(1)?)
}

/// The slots of all threads.
pub(super) fn all() -> &'static [ActivitySlot] {
    &SLOTS[..USED.load(Relaxed).min(MAX_SLOTS)]
}

impl ActivitySlot {
    const fn new() -> Self {
        ActivitySlot {
            id: AtomicU64::new(0),
            phase: AtomicU64::new(0),
            length: AtomicUsize::new(0),
            text: [const { AtomicU64::new(0) }; MAX_WORDS],
        }
    }

    pub(super) fn set(&self, id: u64, text: &[u64], length: usize, phase: u64) {
        if self.id.load(Relaxed) != id {
            for (word, from) in self.text.iter().zip(text) {
                word.store(*from, Relaxed);
            }
            self.length.store(length.min(MAX_TEXT), Relaxed);
            self.id.store(id, Relaxed);
        }
        self.phase.store(phase, Release);
    }

    pub(super) fn clear(&self) {
        self.phase.store(0, Release);
    }

    /// Reads the phase, and copies the text to `to`. Returns the phase and the number of bytes; `None` if the thread has no
    /// activity. For signal handlers.
    pub(super) fn read(&self, to: &mut [u8; MAX_TEXT]) -> Option<(u64, usize)> {
        let phase = self.phase.load(Acquire);
        if phase == 0 {
            return None;
        }
        let (words, _) = to.as_chunks_mut();
        for (word, from) in words.iter_mut().zip(&self.text) {
            *word = from.load(Relaxed).to_le_bytes();
        }
        Some((phase, self.length.load(Relaxed).min(MAX_TEXT)))
    }
}
