//! Instances that a version is run with.

use super::idle::DeviceInFlight;
use crate::engine::Instance;

/// Instances of a version, by the threads that run them.
pub struct Instances<M = Instance> {
    /// For the compute threads: one list for each device.
    pub compute: Vec<OnDevice<M>>,
    /// One for each I/O thread, by its number; none where the version does not run inline.
    pub inline: Vec<M>,
}

/// Instances that run on one device.
pub struct OnDevice<M = Instance> {
    /// They take jobs from one queue with those on other devices.
    pub instances: Vec<M>,
    /// Runs in flight on the device; `None` for the CPU.
    pub in_flight: Option<DeviceInFlight>,
}

impl<M> Default for OnDevice<M> {
    fn default() -> Self {
        OnDevice { instances: Vec::new(), in_flight: None }
    }
}
