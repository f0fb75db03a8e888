//! Figures of GPUs, as the driver gives them at one moment.

use crate::metrics::Gpu;

/// Figures of the driver and its GPUs.
#[derive(Debug)]
pub struct Reading {
    /// Version of the driver.
    pub driver: Option<String>,
    /// The newest CUDA that the driver supports.
    pub cuda: Option<String>,
    /// The GPUs of this process. One that can't be read any more is left out.
    pub gpus: Vec<Gpu>,
}

/// Beginning of the error message where the driver's library is missing.
pub const NO_NVML: &str = "the NVIDIA driver's NVML can't be loaded";
