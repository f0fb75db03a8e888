//! The loader's settings, and the resources that all loads share.

use std::{sync::Arc, time::Duration};

use super::{deaths::Deaths, devices::Devices, trials::Trials};
use crate::{
    batcher::Compute,
    config::{Device, Isolation, ModelConfig, QueueTime},
    engine::Engine,
    metrics::Exposition,
};

/// Time that a run may take where neither the server nor the model is configured.
const MAX_RUN_TIME: Duration = Duration::from_secs(60);

/// Loads versions.
#[derive(Clone)]
pub struct Loader {
    pub(crate) engine: Engine,
    /// Device of versions whose configuration names none.
    pub(super) device: Device,
    /// Time that requests may wait for versions whose configuration names none.
    pub(super) max_queue_time: QueueTime,
    pub(super) devices: Arc<Devices>,
    pub(super) compute: Compute,
    pub(super) exposition: Arc<Exposition>,
    pub(super) io_threads: usize,
    /// Time that a run may take where the configuration names none.
    pub(super) max_run_time: Duration,
    /// Isolation of versions whose configuration names none.
    pub(super) isolation: Isolation,
    /// The files that have passed a trial; `None`: none is tried.
    pub(crate) trials: Option<Arc<Trials>>,
    /// The deaths of the server that versions are to blame for; `None`: none is remembered.
    pub(crate) deaths: Option<Arc<Deaths>>,
}

impl Loader {
    /// A loader for versions that run on `compute`, or on one of so many I/O threads, and that have their metrics in
    /// `exposition`.
    pub fn new(engine: Engine, compute: Compute, exposition: Arc<Exposition>, io_threads: usize) -> Self {
        let (device, devices) = (Device::Auto, Devices::new(engine.clone()).into());
        let (isolation, trials, deaths, max_run_time) = (Isolation::None, None, None, MAX_RUN_TIME);
        let max_queue_time = QueueTime::Auto;
        Loader {
            engine,
            device,
            max_queue_time,
            devices,
            compute,
            exposition,
            io_threads,
            max_run_time,
            isolation,
            trials,
            deaths,
        }
    }

    /// Limits the time of a run where the configuration names none; zero: no limit.
    pub fn with_max_run_time(self, max_run_time: Duration) -> Self {
        Loader { max_run_time, ..self }
    }

    /// Sets the isolation of versions whose configuration names none. Files are tried first where there are `trials`.
    pub fn isolating(self, isolation: Isolation, trials: Option<Trials>) -> Self {
        Loader { isolation, trials: trials.map(Arc::new), ..self }
    }

    /// Sets the device of versions whose configuration names none.
    pub fn on(self, device: Device) -> Self {
        Loader { device, ..self }
    }

    /// Loads no version into this process that has ended it too often.
    pub fn remembering(self, deaths: Deaths) -> Self {
        Loader { deaths: Some(deaths.into()), ..self }
    }

    /// Limits the time that requests wait for versions whose configuration names none.
    pub fn with_max_queue_time(self, max_queue_time: QueueTime) -> Self {
        Loader { max_queue_time, ..self }
    }

    pub(crate) fn exposition(&self) -> Arc<Exposition> {
        self.exposition.clone()
    }

    /// CPUs that runs may use.
    pub(crate) fn cpus(&self) -> usize {
        self.compute.cpus()
    }

    /// Time that a run may take; `None`: any.
    pub(super) fn max_run_time(&self, config: &ModelConfig) -> Option<Duration> {
        Some(config.max_run_time.unwrap_or(self.max_run_time)).filter(|most| !most.is_zero())
    }
}
