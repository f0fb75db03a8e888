//! NVIDIA's GPUs: which there are, and what they say of themselves, by NVML, which is a part of the driver.
//!
//! It is loaded when it is first asked for, and called by one thread; without a driver there is nothing to tell. GPUs are
//! numbered as CUDA numbers them in this process, so that what is told of GPU 1 is told of what `cuda:1` runs on.

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

use driver_thread::{Aside, Silence};
use nvml::Gpus;

/// How long figures are waited for where nothing depends on them.
pub const MOMENT: Duration = Duration::from_secs(1);

static ASIDE: LazyLock<Aside<Reading>> = LazyLock::new(|| {
    Aside::start("gpus", || {
        let gpus = Gpus::open().inspect_err(|why| tracing::debug!("no figures of GPUs: {why}"))?;
        Ok(move || gpus.read())
    })
});

/// Begins to look for GPUs, which [`read`] does otherwise: a driver takes a second to wake up. The thread that asks it has the
/// priority of whoever calls this.
pub fn look() {
    LazyLock::force(&ASIDE);
}

/// What the driver says now. GPUs are looked for once. A broken driver may not answer at all.
///
/// # Errors
/// There is none to ask, or it has not answered in time; the message says which, and why.
pub fn read(patience: Duration) -> Result<Arc<Reading>, String> {
    static IS_LATE: AtomicBool = AtomicBool::new(false);
    match ASIDE.ask(patience) {
        Ok(reading) => {
            if IS_LATE.swap(false, Relaxed) {
                tracing::info!("the NVIDIA driver answers again: there are figures of GPUs");
            }
            Ok(reading)
        }
        Err(Silence::Nobody(why)) => Err(why.to_string()),
        Err(Silence::Late) => {
            let why = format!("the NVIDIA driver (NVML) does not answer within {} s", patience.as_secs());
            if !IS_LATE.swap(true, Relaxed) {
                tracing::warn!("{why}: until it does there are no figures of GPUs, and their memory is not looked at");
            }
            Err(why)
        }
    }
}
