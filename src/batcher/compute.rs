//! Threads that run models, shared by all versions: as many as CPUs that the process may use, and others that wait for devices.
//!
//! A run on a device waits for it and is no work for a CPU: such runs have threads of their own ([`DeviceThreads`]), which are
//! driven in the same way and take no slot of the runs that compute.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    compute_threads::ComputeThreads,
    device_threads::DeviceThreads,
    idle::DeviceInFlight,
    schedulable::Schedulable,
    watchdog::{Watchdog, WatchedLoad},
    watched_task::LoadWatch,
};
use crate::engine::Provider;

/// A handle to the threads. They end at [`Compute::stop`].
#[derive(Clone)]
pub struct Compute {
    threads: ComputeThreads,
    devices: Arc<DeviceThreads>,
}

impl Compute {
    /// Starts a thread for each CPU.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn start(cpus: usize) -> io::Result<Self> {
        let threads = ComputeThreads::start("compute", cpus, cpus, Watchdog::start()?)?;
        Ok(Compute { threads, devices: Arc::default() })
    }

    /// The threads for versions that run on all of these devices, with so many runs at once on each of them at least.
    ///
    /// # Errors
    /// The system gives no more threads, or they have been stopped.
    pub fn on_devices(&self, devices: &[Provider], at_once: usize) -> io::Result<Compute> {
        let threads = self.devices.threads(devices, at_once, &self.threads)?;
        Ok(Compute { threads, devices: self.devices.clone() })
    }

    /// Runs in flight on a device.
    pub fn in_flight(&self, device: Provider) -> DeviceInFlight {
        self.devices.in_flight(device)
    }

    /// CPUs that runs may use at once.
    pub fn cpus(&self) -> usize {
        self.threads.cpus()
    }

    /// Runs that were abandoned and still hold a thread, and with it a CPU.
    pub fn abandoned_runs(&self) -> usize {
        self.watchdog().abandoned()
    }

    /// Watches over the runs that the present thread makes for a load, as long as the value lives.
    pub fn watch_load(&self, max_run_time: Option<Duration>, load: Arc<LoadWatch>) -> WatchedLoad {
        self.watchdog().watch_load(max_run_time, load)
    }

    /// Ends the threads once they have finished what they run, and waits for that. What still waits never runs. Abandoned runs
    /// are not waited for.
    pub fn stop(&self) {
        self.devices.stop();
        // The watchdog goes on meanwhile: runs that nobody waits for any more are to end.
        self.threads.stop();
        self.watchdog().stop();
    }

    /// The watchdog over runs, on all threads.
    pub(super) fn watchdog(&self) -> &Watchdog {
        self.threads.watchdog()
    }

    /// Drives the batcher as soon as its turn comes.
    pub(super) fn schedule(&self, batcher: Arc<dyn Schedulable>) {
        self.threads.schedule(batcher);
    }

    /// Drives the batcher at a later time.
    pub(super) fn schedule_at(&self, when: Instant, batcher: Arc<dyn Schedulable>) {
        self.threads.schedule_at(when, batcher);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_threads_never_start_after_shutdown() {
        let (compute, gpu) = (Compute::start(1).unwrap(), [Provider::Cuda { gpu: 0 }]);
        assert!(compute.on_devices(&gpu, 2).is_ok());
        compute.stop();
        let error = compute.on_devices(&gpu, 2).err().unwrap().to_string();
        assert_eq!(error, "the server ends");
    }
}
