//! The batcher, as far as the watchdog knows it.

use std::time::Duration;

use super::batch::SharedBatch;
use crate::metrics::StopReason;

/// A batcher whose runs the watchdog stops and abandons.
pub(super) trait WatchedBatcher: Send + Sync {
    /// Time that a run may take before it is stopped; `None`: unlimited.
    fn max_run_time(&self) -> Option<Duration>;

    /// Counts and logs a run that was stopped after so long.
    fn report_stop(&self, reason: StopReason, after: Duration);

    /// Answers the jobs of a run that does not end though it was stopped, and takes the batcher out of service. `batch` is
    /// `None` where the run's own thread alone can answer its jobs.
    fn abandon(&self, batch: Option<&SharedBatch>, after: Duration, is_replaced: bool);
}
