//! Threads that runs on devices happen on: they wait for the device, and take no slot of those that compute.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Compute, Load};
use crate::engine::Provider;

/// What versions on devices are run with. Nothing of it is there before there is such a version.
#[derive(Default)]
pub(super) struct Devices {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By the devices that a version runs on: those of versions on others are not to be held up by it.
    threads: BTreeMap<Vec<Provider>, Compute>,
    loads: BTreeMap<Provider, Load>,
}

impl Compute {
    /// The threads for versions that run on all of these devices, with so many runs at once on each of them at least.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn on_devices(&self, devices: &[Provider], at_once: usize) -> io::Result<Compute> {
        let (wanted, cpus) = (devices.len() * at_once, self.cpus());
        let mut state = self.devices().state();
        if let Some(threads) = state.threads.get(devices) {
            threads.grow(wanted)?;
            return Ok(threads.clone());
        }
        let threads = Compute::start_as("device", cpus, wanted)?;
        state.threads.insert(devices.to_vec(), threads.clone());
        Ok(threads)
    }

    /// What keeps a device busy.
    pub fn load(&self, device: Provider) -> Load {
        // TensorRT's runs and CUDA's share a GPU.
        let device = device.gpu().map_or(device, |gpu| Provider::Cuda { gpu });
        self.devices().state().loads.entry(device).or_default().clone()
    }
}

impl Devices {
    /// Ends the threads once they have finished what they run.
    pub(super) fn stop(&self) {
        let threads = std::mem::take(&mut self.state().threads);
        for threads in threads.into_values() {
            threads.stop();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
