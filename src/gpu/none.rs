//! GPUs where the driver has no NVML.

use std::convert::Infallible;

use super::Gpu;

/// There are none.
#[derive(Debug)]
pub struct Gpus(Infallible);

impl Gpus {
    /// There are none.
    ///
    /// # Errors
    /// Always.
    pub fn open() -> Result<Self, String> {
        Err("GPUs are known on Linux only".into())
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        match self.0 {}
    }

    /// What each says of itself.
    pub fn read(&self) -> Vec<Gpu> {
        match self.0 {}
    }

    /// What one says of itself now.
    pub fn read_at(&self, _: u32) -> Option<Gpu> {
        match self.0 {}
    }

    /// The driver's version.
    pub fn driver_version(&self) -> Option<String> {
        match self.0 {}
    }

    /// The newest CUDA that the driver can run.
    pub fn cuda_version(&self) -> Option<String> {
        match self.0 {}
    }
}
