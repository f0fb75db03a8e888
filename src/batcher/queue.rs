//! The queue policy: it decides which waiting jobs run next, together. Pure: time comes as an argument, there are no threads and no
//! tensors, and property tests hold its promises.
//!
//! Jobs lie in one queue for each key, and an index orders these, so that a push and a take cost the logarithm of the number of
//! keys, however many shapes wait.

mod key_index;
mod key_queue;
mod policy;
mod waiting;

#[cfg(test)]
mod tests;

pub(super) use policy::Queue;
pub use waiting::LevelLimits;
pub(super) use waiting::{BatchKey, Cancel, Dropped, NextStep, QueueLimits, Waiting};
