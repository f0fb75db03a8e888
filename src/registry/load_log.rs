//! Log lines of loads.

use std::{sync::Arc, time::Instant};

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
    let LoadFailure { why, .. } = failure;
    let retry_in_seconds = retry_in_seconds(failure);
    let event = if *serves { "not reloaded, the one before goes on serving" } else { "not loaded" };
    // A load that fails for the same reason again and again is an error once.
    if *is_repeated {
        tracing::debug!(model, version, retry_in_seconds, "again {event}: {why}");
    } else {
        tracing::error!(model, version, retry_in_seconds, "{event}: {why}");
    }
}

pub(super) fn log_loss((model, version): &VersionKey, generation: u64, failure: &LoadFailure) {
    let retry_in_seconds = retry_in_seconds(failure);
    tracing::error!(model, version, generation, retry_in_seconds, "out of service: {}", failure.why);
}

fn retry_in_seconds(failure: &LoadFailure) -> Option<f64> {
    failure.retry.map(|retry| retry.at.saturating_duration_since(Instant::now()).as_secs_f64().round())
}
