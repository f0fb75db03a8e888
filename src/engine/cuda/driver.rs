//! The GPUs that CUDA sees, by the driver's own library: that says so before anything of CUDA is there.
//! `CUDA_VISIBLE_DEVICES` counts, as it will for ONNX Runtime.

use libloading::Library;
use std::{
    error::Error,
    ffi::{CStr, c_char, c_int},
    sync::OnceLock,
};

const DRIVER: &str = "libcuda.so.1";

/// Bytes of a GPU's name, with its end.
const NAME_BYTES: usize = 256;

const NO_GPU: &str = "the NVIDIA driver sees no GPU: does `nvidia-smi` list one, is one given to the container, and does \
                      CUDA_VISIBLE_DEVICES, where it is set, name one?";

/// The names of the GPUs, by their numbers; or why there are none, for people. Found out once.
///
/// # Errors
/// There is no driver, or it sees no GPU.
pub fn gpus() -> Result<&'static [String], &'static str> {
    static GPUS: OnceLock<Result<Vec<String>, String>> = OnceLock::new();
    match GPUS.get_or_init(query) {
        Ok(names) => Ok(names),
        Err(why) => Err(why),
    }
}

#[allow(unsafe_code, reason = "the driver's C interface")]
fn query() -> Result<Vec<String>, String> {
    // SAFETY: what the driver's library does when it is loaded is what every program that uses CUDA has done.
    let driver = unsafe { Library::new(DRIVER) };
    let driver = driver.map_err(|error| {
        // The loader's own words.
        let words = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        format!("the NVIDIA driver's library can't be loaded: {words}")
    })?;
    // For good: GPUs don't take it well when it is loaded and unloaded.
    let driver: &'static Library = Box::leak(Box::new(driver));
    call(driver, "cuInit", |f: extern "C" fn(u32) -> c_int| f(0))?;
    let mut count = 0;
    call(driver, "cuDeviceGetCount", |f: extern "C" fn(*mut c_int) -> c_int| f(&raw mut count))?;
    if count == 0 {
        return Err(NO_GPU.into());
    }
    (0..count).map(|gpu| prepared(driver, gpu)).collect()
}

/// Prepares a GPU for runs, and returns its name.
fn prepared(driver: &'static Library, gpu: c_int) -> Result<String, String> {
    let mut device: c_int = 0;
    call(driver, "cuDeviceGet", |f: extern "C" fn(*mut c_int, c_int) -> c_int| f(&raw mut device, gpu))?;
    let mut name = [0u8; NAME_BYTES];
    call(driver, "cuDeviceGetName", |f: extern "C" fn(*mut c_char, c_int, c_int) -> c_int| {
        f(name.as_mut_ptr().cast(), NAME_BYTES as c_int, device)
    })?;
    wait_asleep(driver, device);
    let name = CStr::from_bytes_until_nul(&name).map(CStr::to_string_lossy);
    Ok(name.map_or_else(|_| format!("GPU {gpu}"), Into::into))
}

/// Has threads that wait for a GPU sleep: where CPUs are to spare, CUDA would keep one busy for each run. It is set before anything of
/// CUDA uses the GPU; a driver that refuses it waits as ever.
fn wait_asleep(driver: &'static Library, device: c_int) {
    const BLOCKING_SYNC: u32 = 4;
    let set = |f: extern "C" fn(c_int, u32) -> c_int| f(device, BLOCKING_SYNC);
    if let Err(why) = call(driver, "cuDevicePrimaryCtxSetFlags_v2", set) {
        tracing::debug!(gpu = device, error = why, "blocking waits unavailable, CUDA waits as by default");
    }
}

/// Calls a function of the driver, whose name says what it takes.
#[allow(unsafe_code, reason = "the driver's C interface")]
fn call<F: Copy + 'static>(
    driver: &'static Library,
    function: &str,
    call: impl FnOnce(F) -> c_int,
) -> Result<(), String> {
    // SAFETY: `F` is the function's type as cuda.h has it; the library is never unloaded.
    let symbol = unsafe { driver.get::<F>(function.as_bytes()) };
    let symbol = symbol.map_err(|error| format!("{DRIVER} is not the NVIDIA driver's: {error}"))?;
    match call(*symbol) {
        0 => Ok(()),
        // It has no GPU: so do machines that have had one, and containers that were given none.
        100 => Err(NO_GPU.into()),
        code => Err(format!("the NVIDIA driver refuses {function} (CUDA error {code}){}", meaning(code))),
    }
}

/// Advice on an error of the driver.
fn meaning(code: c_int) -> &'static str {
    match code {
        // The stub that toolkits come with for linking.
        34 => ": a stub of libcuda.so.1 is found before the driver's own; take it out of LD_LIBRARY_PATH",
        803 => ": the driver in the kernel and its library are of different versions; restart the machine",
        804 => ": this GPU does not allow a library newer than its driver; install a newer driver",
        999 => ": is the kernel module nvidia_uvm loaded? `nvidia-modprobe -u` loads it",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wherever this runs: it is the same each time, and says something.
    #[test]
    fn gpus_are_queried_once() {
        assert_eq!(gpus(), gpus());
        assert!(gpus().map_or_else(|why| why.len() > 10, |names| !names.is_empty()));
    }
}
