//! GPUs by NVML.

use nvml_wrapper::{Device, Nvml, error::NvmlError};
use std::{
    env,
    ffi::OsStr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use super::{
    order::{Seen, seen},
    reading::{NO_NVML, Reading},
};
use crate::metrics::{Gpu, GpuMemory};

/// The library, which comes with the driver. It is found on the system's search path for libraries.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// The GPUs that CUDA sees in this process, in its order.
#[derive(Debug)]
pub(super) struct Gpus {
    nvml: Nvml,
    known: Vec<NvmlGpu>,
    /// True if a warning about an unreadable GPU has been logged.
    reported: AtomicBool,
}

/// A GPU, with its properties that never change.
#[derive(Debug)]
struct NvmlGpu {
    handle: Handle,
    uuid: String,
    name: String,
}

/// Identifier of a GPU for NVML.
#[derive(Debug)]
enum Handle {
    Number(u32),
    Uuid(String),
}

impl Gpus {
    /// Loads NVML and looks for GPUs.
    ///
    /// # Errors
    /// There is no driver, or it can't be read; the message names the cause.
    pub(super) fn open() -> Result<Self, String> {
        Gpus::by(LIBRARY)
    }

    fn by(library: &str) -> Result<Self, String> {
        let nvml = Nvml::builder().lib_path(OsStr::new(library)).init().map_err(|error| match error {
            NvmlError::LibloadingError(error) => format!("{NO_NVML}: {error}"),
            error => format!("the NVIDIA driver can't be asked: {error}"),
        })?;
        let count =
            nvml.device_count().map_err(|error| format!("the NVIDIA driver does not tell its GPUs: {error}"))?;
        let mut by_bus: Vec<_> = (0..count).filter_map(|number| whole(&nvml, number)).collect();
        by_bus.sort_by_key(|(place, _)| *place);
        let uuids: Vec<_> = by_bus.iter().map(|(_, known)| known.uuid.as_str()).collect();
        let list = env::var_os("CUDA_VISIBLE_DEVICES").map(|list| list.to_string_lossy().into_owned());
        let seen = seen(list.as_deref(), &uuids);
        let mut by_bus: Vec<_> = by_bus.into_iter().map(|(_, known)| Some(known)).collect();
        let known = seen.into_iter().filter_map(|seen| match seen {
            // No GPU is listed twice.
            Seen::Whole(index) => by_bus[index].take(),
            Seen::Part(uuid) => part(&nvml, uuid),
        });
        let known = known.collect();
        Ok(Gpus { nvml, known, reported: AtomicBool::new(false) })
    }

    /// Reads the current figures. A GPU that can't be read any more is left out, and logged once.
    pub(super) fn read(&self) -> Reading {
        let mut gpus = Vec::new();
        let mut lost = false;
        for (index, known) in (0..).zip(&self.known) {
            match self.read_one(index, known) {
                Ok(gpu) => gpus.push(gpu),
                Err(error) => {
                    lost = true;
                    if !self.reported.load(Relaxed) {
                        let NvmlGpu { name, uuid, .. } = known;
                        tracing::warn!(gpu = index, name, uuid, %error, "GPU unreadable, its figures are missing");
                    }
                }
            }
        }
        self.reported.store(lost, Relaxed);
        Reading { driver: self.driver_version(), cuda: self.cuda_version(), gpus }
    }

    fn read_one(&self, index: u32, known: &NvmlGpu) -> Result<Gpu, NvmlError> {
        let device = match &known.handle {
            Handle::Number(number) => self.nvml.device_by_index(*number),
            Handle::Uuid(uuid) => self.nvml.device_by_uuid(uuid.as_str()),
        }?;
        let thousandth = |value: u32| f64::from(value) / 1000.0;
        Ok(Gpu {
            index,
            uuid: known.uuid.clone(),
            name: known.name.clone(),
            memory: reported(device.memory_info())?.map(|memory| GpuMemory {
                total: memory.total,
                used: memory.used,
                free: memory.free,
            }),
            utilization: reported(device.utilization_rates())?.map(|rates| f64::from(rates.gpu) / 100.0),
            power_watts: reported(device.power_usage())?.map(thousandth),
            power_limit_watts: reported(device.power_management_limit())?.map(thousandth),
            energy_joules: reported(device.total_energy_consumption())?.map(|energy| energy as f64 / 1000.0),
        })
    }

    fn driver_version(&self) -> Option<String> {
        self.nvml.sys_driver_version().ok()
    }

    fn cuda_version(&self) -> Option<String> {
        let version = self.nvml.sys_cuda_driver_version().ok()?;
        Some(format!("{}.{}", version / 1000, version % 1000 / 10))
    }
}

/// The value of a reply, if there is one. Not every GPU reports every figure; a lost GPU is an error.
fn reported<T>(answer: Result<T, NvmlError>) -> Result<Option<T>, NvmlError> {
    match answer {
        Err(error @ NvmlError::GpuLost) => Err(error),
        answer => Ok(answer.ok()),
    }
}

/// A GPU with its place on the bus: domain, bus, device.
fn whole(nvml: &Nvml, number: u32) -> Option<((u32, u32, u32), NvmlGpu)> {
    let found = || -> Result<_, NvmlError> {
        let device = nvml.device_by_index(number)?;
        // Without a place, NVML's own order is likely to be the same.
        let place = device.pci_info().map_or((0, 0, 0), |place| (place.domain, place.bus, place.device));
        Ok((place, known(&device, Handle::Number(number))?))
    };
    // A GPU that this process may not use is none for CUDA either.
    found().inspect_err(|error| tracing::debug!(nvml_index = number, %error, "GPU unusable in this process")).ok()
}

fn part(nvml: &Nvml, uuid: String) -> Option<NvmlGpu> {
    known(&nvml.device_by_uuid(uuid.as_str()).ok()?, Handle::Uuid(uuid)).ok()
}

fn known(device: &Device<'_>, handle: Handle) -> Result<NvmlGpu, NvmlError> {
    Ok(NvmlGpu { handle, uuid: device.uuid()?, name: device.name()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nvml_without_a_driver_reports_the_cause() {
        let why = Gpus::by("libnvidia-ml-that-there-is-not.so.1").unwrap_err();
        assert!(
            why.starts_with("the NVIDIA driver's NVML can't be loaded: libnvidia-ml-that-there-is-not.so.1: "),
            "{why}"
        );
    }
}
