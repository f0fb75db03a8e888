//! Batching settings of one version.

use std::time::Duration;

use super::priority_levels::Levels;

/// Settings by which a version's requests are batched and run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatcherSettings {
    /// True if axis 0 is the batch: a request that has more rows than a batch may have is run in pieces.
    pub rows_independent: bool,
    /// True if requests are batched; otherwise each runs alone.
    pub batched: bool,
    /// Input and axis of every extent behind axis 0 that the signature leaves open: requests are batched only where they agree
    /// in them. Empty where they are not batched.
    pub open_axes: Vec<(usize, usize)>,
    /// Pairs of inputs and axes whose extents agree in requests that are batched or cut; one in which they don't runs alone.
    pub shared_extents: Vec<[(usize, usize); 2]>,
    /// Inputs, axes and the extents that they have in requests that are batched or cut; one with others runs alone.
    pub required_extents: Vec<(usize, usize, usize)>,
    /// Rows of a batch at most.
    pub max_batch_size: usize,
    /// Time that a request may wait for others while an instance is free.
    pub max_queue_delay: Duration,
    /// Requests that wait at most.
    pub max_queue_size: usize,
    /// Priority levels and their limits.
    pub levels: Levels,
    /// Compute slots that a run takes: the threads that it uses, or one where it waits for a device.
    pub slots: usize,
    /// True if made-up inputs ran when the version was loaded.
    pub ran_at_load: bool,
    /// Rows of a batch at most that an I/O thread runs inline; larger requests go to the compute threads.
    pub inline_rows: usize,
    /// Time that a run may take before it is stopped; `None`: unlimited.
    pub max_run_time: Option<Duration>,
}
