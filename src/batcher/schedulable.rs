//! The batcher, as far as the threads that drive it know it.

use std::time::Duration;

use super::sync::Arc;

/// A batcher that compute threads and I/O threads drive. One virtual call a batch is what it costs that they know no more of it.
pub(super) trait Schedulable: Send + Sync {
    /// Compute slots that a run takes.
    fn slots(&self) -> usize;

    /// Time that the next run is expected to take on a compute thread, once there was one.
    fn expected_run_time(&self) -> Option<Duration>;

    /// Runs a batch of the compute threads' lane, if one is due and an instance idle.
    fn drive_compute(self: Arc<Self>);

    /// Runs a batch of an I/O thread's lane, if one is due. Returns the number of requests that ran.
    fn drive_inline(self: Arc<Self>, io_thread: usize) -> usize;
}
