//! Locks, atomics and threads of the batcher: those of the standard library. The wake-up tests compile the batcher a second time
//! with the ones of `shuttle` in this module's place, which try out the orders in which threads can run.

pub(super) use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak, atomic},
    thread, thread_local,
};
