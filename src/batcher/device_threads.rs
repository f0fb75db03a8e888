//! Threads for runs on devices: they wait for the device, and take no slot of the runs that compute.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{compute_threads::ComputeThreads, idle::DeviceInFlight};
use crate::engine::Provider;

/// Threads and run counts by device. There are none before a version runs on a device.
#[derive(Default)]
pub(super) struct DeviceThreads {
    by_device: Mutex<ByDevice>,
}

#[derive(Default)]
struct ByDevice {
    /// By the devices that a version runs on: those of versions on others are not to be held up by it.
    threads: BTreeMap<Vec<Provider>, ComputeThreads>,
    in_flight: BTreeMap<Provider, DeviceInFlight>,
    /// A load that ends after the end must not start threads that nobody waits for.
    is_stopped: bool,
}

impl DeviceThreads {
    /// The threads for versions that run on all of these devices, with so many runs at once on each of them at least. New ones
    /// share the CPUs and the watchdog of the compute threads.
    ///
    /// # Errors
    /// The system gives no more threads, or they have been stopped.
    pub(super) fn threads(
        &self,
        devices: &[Provider],
        at_once: usize,
        compute: &ComputeThreads,
    ) -> io::Result<ComputeThreads> {
        let wanted = devices.len() * at_once;
        let mut by_device = self.lock();
        if by_device.is_stopped {
            return Err(io::Error::other("the server ends"));
        }
        if let Some(threads) = by_device.threads.get(devices) {
            threads.grow(wanted)?;
            return Ok(threads.clone());
        }
        let threads = ComputeThreads::start("device", compute.cpus(), wanted, compute.watchdog().clone())?;
        by_device.threads.insert(devices.to_vec(), threads.clone());
        Ok(threads)
    }

    /// Runs in flight on a device.
    pub(super) fn in_flight(&self, device: Provider) -> DeviceInFlight {
        // TensorRT's runs and CUDA's share a GPU.
        let device = device.gpu().map_or(device, |gpu| Provider::Cuda { gpu });
        self.lock().in_flight.entry(device).or_default().clone()
    }

    /// Ends the threads once they have finished what they run.
    pub(super) fn stop(&self) {
        let mut by_device = self.lock();
        by_device.is_stopped = true;
        let threads = std::mem::take(&mut by_device.threads);
        drop(by_device);
        for threads in threads.into_values() {
            threads.stop();
        }
    }

    fn lock(&self) -> MutexGuard<'_, ByDevice> {
        self.by_device.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
