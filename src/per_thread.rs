//! Values that each thread has to itself, to avoid false sharing. A write to memory that another thread has just written to
//! fetches it from that thread's cache, which takes ten times as long as the write.

use crossbeam_utils::CachePadded;
use std::{cell::Cell, num::NonZeroUsize, thread};

/// One value for each thread that answers requests, as far as there are not too many; others share them.
#[derive(Debug)]
pub struct PerThread<T> {
    slots: Box<[CachePadded<T>]>,
}

/// Threads that are kept apart at most: beyond that memory is worth more.
const MAX_SLOTS: usize = 16;

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(0) };
}

/// Has the present thread be kept apart from those of other numbers.
pub fn enter(number: usize) {
    NUMBER.set(number);
}

impl<T> PerThread<T> {
    /// Values as `make` gives them: for the threads that read requests and those that run models, one of each for every CPU.
    pub fn new(make: impl Fn() -> T) -> Self {
        let threads = 2 * thread::available_parallelism().map_or(1, NonZeroUsize::get);
        PerThread { slots: (0..threads.min(MAX_SLOTS)).map(|_| CachePadded::new(make())).collect() }
    }

    /// The present thread's.
    pub fn here(&self) -> &T {
        &self.slots[NUMBER.get() % self.slots.len()]
    }

    /// The values of all threads.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().map(|slot| &**slot)
    }
}
