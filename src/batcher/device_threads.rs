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
    /// A load that ends after the end must not start threads that nobody waits for.
    is_stopped: bool,
}

impl Compute {
    /// The threads for versions that run on all of these devices, with so many runs at once on each of them at least.
    ///
    /// # Errors
    /// The system gives no more threads, or they have been stopped.
    pub fn on_devices(&self, devices: &[Provider], at_once: usize) -> io::Result<Compute> {
        let (wanted, cpus) = (devices.len() * at_once, self.cpus());
        let mut state = self.devices().state();
        if state.is_stopped {
            return Err(io::Error::other("the server ends"));
        }
        if let Some(threads) = state.threads.get(devices) {
            threads.grow(wanted)?;
            return Ok(threads.clone());
        }
        let threads = Compute::start_as("device", cpus, wanted, self.watchdog().clone())?;
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
        let mut state = self.state();
        state.is_stopped = true;
        let threads = std::mem::take(&mut state.threads);
        drop(state);
        for threads in threads.into_values() {
            threads.stop_threads();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_threads_are_started_after_the_end() {
        let (compute, gpu) = (Compute::start(1).unwrap(), [Provider::Cuda { gpu: 0 }]);
        assert!(compute.on_devices(&gpu, 2).is_ok());
        compute.stop();
        let error = compute.on_devices(&gpu, 2).err().unwrap().to_string();
        assert_eq!(error, "the server ends");
    }
}
