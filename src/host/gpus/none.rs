//! GPUs where the driver has no NVML.

use std::convert::Infallible;

use super::reading::Reading;

/// GPUs on a system without NVML: none.
#[derive(Debug)]
pub(super) struct Gpus(Infallible);

impl Gpus {
    /// Fails: there are no GPUs.
    ///
    /// # Errors
    /// Always.
    pub(super) fn open() -> Result<Self, String> {
        Err("GPUs are known on Linux only".into())
    }

    /// Reads the figures.
    pub(super) fn read(&self) -> Reading {
        match self.0 {}
    }
}
