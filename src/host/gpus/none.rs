//! GPUs where the driver has no NVML.

use std::convert::Infallible;

use super::reading::Reading;

/// There are none.
#[derive(Debug)]
pub(super) struct Gpus(Infallible);

impl Gpus {
    /// There are none.
    ///
    /// # Errors
    /// Always.
    pub(super) fn open() -> Result<Self, String> {
        Err("GPUs are known on Linux only".into())
    }

    /// What it says.
    pub(super) fn read(&self) -> Reading {
        match self.0 {}
    }
}
