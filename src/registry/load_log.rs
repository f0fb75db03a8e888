//! Log lines of loads.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    lifecycle::LoadOutcome,
    previous::{FailedLoad, LoadFailure},
};
use crate::{loader::VersionKey, router::Version};

/// The result of a load, which is logged once the table with it is published.
pub(super) enum LoadLog {
    /// A generation serves.
    Ready(Arc<Version>),
    /// A load failed.
    Failed(VersionKey, FailedLoad),
}

impl LoadLog {
    /// The log line of a load's result; `version` is the generation that it made.
    pub(super) fn of(key: VersionKey, outcome: LoadOutcome, version: Option<Arc<Version>>) -> Option<Self> {
        match outcome {
            LoadOutcome::Ready => version.map(LoadLog::Ready),
            LoadOutcome::Failed(failed) => Some(LoadLog::Failed(key, failed)),
        }
    }

    pub(super) fn write(&self) {
        match self {
            LoadLog::Ready(version) => log_ready(version),
            LoadLog::Failed(key, failed) => log_failed(key, failed),
        }
    }
}

fn log_ready(version: &Version) {
    let derived = &version.derived;
    tracing::info!(
        model = &*version.model,
        version = version.version,
        generation = version.generation,
        batching = derived.batching_text(),
        device = derived.devices_text(),
        instances = derived.instances,
        intra_op_threads = derived.intra_op_threads,
        in_place = derived.in_place_text(),
        isolation = derived.isolation_text(),
        seconds = version.load_time.as_secs_f64(),
        "ready"
    );
}

fn log_failed((model, version): &VersionKey, FailedLoad { failure, serves, is_repeated }: &FailedLoad) {
    let (error, is_serving) = (&*failure.why, *serves);
    // A load that fails for the same reason again and again is an error once.
    match (retry_in(failure), *is_repeated) {
        (Some(retry_in), false) => {
            tracing::error!(model, version, error, is_serving, ?retry_in, "load failed, retrying with back-off")
        }
        (Some(retry_in), true) => {
            tracing::debug!(model, version, error, is_serving, ?retry_in, "load failed again, retrying with back-off")
        }
        (None, false) => tracing::error!(model, version, error, is_serving, "load failed"),
        (None, true) => tracing::debug!(model, version, error, is_serving, "load failed again"),
    }
}

pub(super) fn log_loss((model, version): &VersionKey, generation: u64, failure: &LoadFailure) {
    let error = &*failure.why;
    match retry_in(failure) {
        Some(retry_in) => {
            tracing::error!(
                model,
                version,
                generation,
                error,
                ?retry_in,
                "version out of service, retrying with back-off"
            )
        }
        None => tracing::error!(model, version, generation, error, "version out of service, quarantined"),
    }
}

/// Time until the retry of a failed load, in whole seconds.
fn retry_in(failure: &LoadFailure) -> Option<Duration> {
    let left = failure.retry?.at.saturating_duration_since(Instant::now());
    Some(Duration::from_secs_f64(left.as_secs_f64().round()))
}
