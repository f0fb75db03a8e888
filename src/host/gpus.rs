//! NVIDIA's GPUs and their figures, by NVML, which is a part of the driver.
//!
//! NVML is loaded at its first use, and called by one thread. Without a driver there are no figures. GPUs are numbered as CUDA
//! numbers them in this process, so that the figures of GPU 1 are those of the device `cuda:1`.

mod driver_thread;
mod loaded;
#[cfg(target_os = "linux")]
mod nvml;
#[cfg(not(target_os = "linux"))]
#[path = "gpus/none.rs"]
mod nvml;
mod order;
mod reading;
mod room;

pub use crate::metrics::{Gpu, GpuMemory};
pub use loaded::{cudnn_version, runtime_version};
pub use order::{NUMBERING, number_by_bus, numbered_by_bus};
pub use reading::{NO_NVML, Reading};
pub use room::fits;

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use driver_thread::{DriverError, DriverThread};
use nvml::Gpus;

/// Timeout for figures that nothing depends on.
pub const MOMENT: Duration = Duration::from_secs(1);

static DRIVER: LazyLock<DriverThread<Reading>> = LazyLock::new(|| {
    DriverThread::start("gpus", || {
        let gpus = Gpus::open().inspect_err(|why| tracing::debug!(error = why, "GPU figures unavailable"))?;
        Ok(move || gpus.read())
    })
});

/// Starts the search for GPUs, which [`read`] does otherwise: a driver takes a second to wake up. The thread that calls the
/// driver inherits the priority of the caller.
pub fn open_driver() {
    LazyLock::force(&DRIVER);
}

/// Reads the driver's current figures. The search for GPUs is done once. A broken driver may never return.
///
/// # Errors
/// There is no driver or GPU to read, or the driver has not answered in time. The message names which, and the cause.
pub fn read(timeout: Duration) -> Result<Arc<Reading>, String> {
    static IS_LATE: AtomicBool = AtomicBool::new(false);
    match DRIVER.ask(timeout) {
        Ok(reading) => {
            if IS_LATE.swap(false, Relaxed) {
                tracing::info!("NVIDIA driver answers again, GPU figures available");
            }
            Ok(reading)
        }
        Err(DriverError::Unavailable(why)) => Err(why.to_string()),
        Err(DriverError::Timeout) => {
            let why = format!("the NVIDIA driver (NVML) does not answer within {} s", timeout.as_secs());
            if !IS_LATE.swap(true, Relaxed) {
                tracing::warn!(error = why, "GPU figures unavailable, GPU memory unchecked until the driver answers");
            }
            Err(why)
        }
    }
}
