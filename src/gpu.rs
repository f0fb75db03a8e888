//! NVIDIA's GPUs: which there are, and what they say of themselves, by NVML, which is a part of the driver.
//!
//! It is loaded when it is first asked for; without a driver there is nothing to tell. GPUs are numbered as CUDA numbers them
//! in this process, so that what is told of GPU 1 is told of what `cuda:1` runs on.

mod loaded;
#[cfg(target_os = "linux")]
mod nvml;
#[cfg(not(target_os = "linux"))]
#[path = "gpu/none.rs"]
mod nvml;
mod order;
mod room;

pub use crate::metrics::{Gpu, GpuMemory};
pub use loaded::{cudnn_version, runtime_version};
pub use nvml::Gpus;
pub use order::{NUMBERING, number_by_bus, numbered_by_bus};
pub use room::fits;

use std::sync::OnceLock;

impl Gpus {
    /// The GPUs of this process. They are looked for once; the driver may take a second to wake up.
    ///
    /// # Errors
    /// There are none to ask; the message says why.
    pub fn here() -> Result<&'static Gpus, &'static str> {
        static GPUS: OnceLock<Result<Gpus, String>> = OnceLock::new();
        let gpus = GPUS.get_or_init(|| Gpus::open().inspect_err(|why| tracing::debug!("no figures of GPUs: {why}")));
        gpus.as_ref().map_err(String::as_str)
    }
}
