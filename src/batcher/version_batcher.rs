//! The batcher of one loaded version: its lanes, and the state that they share.

use std::time::Duration;

use super::{
    compute::Compute,
    instances::{Instances, OnDevice},
    io_thread,
    lane::Lane,
    loss::LossSignal,
    queue::QueueLimits,
    run_time_ewma::{ComputeRunTime, InlineRunTime},
    settings::BatcherSettings,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize},
    },
    watched_batcher::WatchedBatcher,
    worker_deaths::WorkerDeaths,
};
use crate::{
    engine::{Instance, Model},
    metrics::VersionMetrics,
};

/// The queues and the instances of one loaded version.
pub struct Batcher<M: Model = Instance> {
    pub(super) model: Box<str>,
    pub(super) version: u64,
    /// "model 'm' version 1", for messages.
    pub(super) label: String,
    pub(super) settings: BatcherSettings,
    pub(super) metrics: Arc<VersionMetrics>,
    pub(super) compute: Compute,
    /// The compute threads' lane.
    pub(super) compute_lane: Lane<M>,
    /// The I/O threads' lanes.
    pub(super) inline_lanes: Box<[Lane<M>]>,
    pub(super) inline_run_time: InlineRunTime,
    pub(super) compute_run_time: ComputeRunTime,
    /// Number that keeps the next job that runs alone apart from all others.
    pub(super) next_alone: AtomicUsize,
    /// True if any inputs ran: then the model works, and a run that fails is the fault of its inputs.
    pub(super) has_run: AtomicBool,
    pub(super) loss: LossSignal,
    pub(super) worker_deaths: WorkerDeaths,
}

/// The lane that a request is queued in.
#[derive(Debug, Clone, Copy)]
pub(super) enum LaneId {
    /// The lane of the compute threads.
    Compute,
    /// The lane of the I/O thread with this number, which is the present one.
    Inline(usize),
}

impl<M: Model> Batcher<M> {
    /// A batcher over these instances of the version that `model` and `version` name.
    pub fn new(
        model: &str,
        version: u64,
        instances: Instances<M>,
        settings: BatcherSettings,
        metrics: Arc<VersionMetrics>,
        compute: Compute,
    ) -> Arc<Self> {
        let limits = QueueLimits {
            max_rows: if settings.batched { settings.max_batch_size } else { 0 },
            max_jobs: settings.max_queue_size,
            max_delay: if settings.batched { settings.max_queue_delay } else { Duration::ZERO },
            levels: settings.levels.limits().clone(),
        };
        let inline = QueueLimits { max_rows: limits.max_rows.min(settings.inline_rows), ..limits.clone() };
        let label = format!("model '{model}' version {version}");
        Arc::new_cyclic(|batcher: &Weak<Self>| {
            let watched = || -> Weak<dyn WatchedBatcher> { batcher.clone() };
            Batcher {
                model: model.into(),
                version,
                label,
                has_run: AtomicBool::new(settings.ran_at_load),
                settings,
                compute,
                compute_lane: Lane::new(limits, instances.compute, &metrics, watched()),
                inline_lanes: (instances.inline.into_iter())
                    .map(|instance| OnDevice { instances: vec![instance], in_flight: None })
                    .map(|on_device| Lane::new(inline.clone(), vec![on_device], &metrics, watched()))
                    .collect(),
                metrics,
                inline_run_time: InlineRunTime::new(),
                compute_run_time: ComputeRunTime::default(),
                next_alone: AtomicUsize::new(0),
                loss: LossSignal::default(),
                worker_deaths: WorkerDeaths::default(),
            }
        })
    }

    /// The lane for a request of so many rows.
    pub(super) fn lane_for(&self, rows: usize) -> LaneId {
        if self.inline_lanes.is_empty() || rows > self.settings.inline_rows || !self.inline_run_time.is_short() {
            return LaneId::Compute;
        }
        let number = io_thread::number().filter(|number| *number < self.inline_lanes.len());
        number.map_or(LaneId::Compute, LaneId::Inline)
    }

    pub(super) fn lane(&self, lane: LaneId) -> &Lane<M> {
        match lane {
            LaneId::Compute => &self.compute_lane,
            LaneId::Inline(number) => &self.inline_lanes[number],
        }
    }
}
