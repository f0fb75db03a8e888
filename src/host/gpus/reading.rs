//! Figures of GPUs, as the driver gives them at one moment.

use crate::metrics::Gpu;

/// Figures of the driver and its GPUs.
#[derive(Debug)]
pub struct Reading {
    /// Its version.
    pub driver: Option<String>,
    /// The newest CUDA that it can run.
    pub cuda: Option<String>,
    /// The GPUs of this process. One that can't be asked any more is left out.
    pub gpus: Vec<Gpu>,
}

/// Beginning of the error message where the driver's library is missing.
pub const NO_NVML: &str = "the NVIDIA driver's NVML can't be loaded";
