//! The batcher's answers to the watchdog: stopped runs are counted, and abandoned ones take the version out of service.

use std::time::Duration;

use super::{
    batch::SharedBatch, version_batcher::Batcher, watched_batcher::WatchedBatcher, watched_task::STOP_TIMEOUT,
};
use crate::{
    engine::Model,
    error::{Code, Error, Lost},
    metrics::StopReason,
};

impl<M: Model> WatchedBatcher for Batcher<M> {
    fn max_run_time(&self) -> Option<Duration> {
        self.settings.max_run_time
    }

    fn report_stop(&self, reason: StopReason, after: Duration) {
        self.metrics.run_stopped(reason);
        let (model, version, seconds) = (&*self.model, self.version, after.as_secs_f64());
        if reason == StopReason::MaxRunTime {
            tracing::warn!(model, version, seconds, reason = reason.label(), "run stopped");
        } else {
            // Clients could fill the log with them.
            tracing::debug!(model, version, seconds, reason = reason.label(), "run stopped");
        }
    }

    fn abandon(&self, batch: Option<&SharedBatch>, after: Duration, is_replaced: bool) {
        let why = format!(
            "a run did not end within {STOP_TIMEOUT:?} after it was stopped at max_run_time, and was abandoned"
        );
        if let Some(batch) = batch {
            let message = format!("{}: {why}", self.label);
            batch.refuse_all(&Error::new(Code::DeadlineExceeded, message));
        }
        self.metrics.run_abandoned();
        let (model, version, seconds) = (&*self.model, self.version, after.as_secs_f64());
        tracing::error!(model, version, seconds, is_replaced, error = why, "run abandoned, version quarantined");
        self.lose(Lost::for_good(why));
    }
}
