use super::Load;
use crate::engine::Instance;

/// What a version is run with.
pub struct Instances {
    /// For the compute threads: one list for each device.
    pub compute: Vec<OnDevice>,
    /// One for each I/O thread, by its number; none where the version does not run in place.
    pub in_place: Vec<Instance>,
}

/// Instances that run on one device.
#[derive(Default)]
pub struct OnDevice {
    /// They take what waits in one queue with those on other devices.
    pub instances: Vec<Instance>,
    /// What keeps the device busy; `None` for the CPU.
    pub load: Option<Load>,
}
