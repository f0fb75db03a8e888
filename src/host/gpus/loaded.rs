//! Versions of CUDA's libraries that are in this process.

use libloading::os::unix::{Library, RTLD_LAZY};
use std::ffi::c_int;

/// The library of CUDA's runtime that ONNX Runtime's providers need.
const RUNTIME: &str = "libcudart.so.13";

/// The library of cuDNN.
const CUDNN: &str = "libcudnn.so.9";

/// The version of CUDA's runtime, where it has been loaded.
#[allow(unsafe_code, reason = "a call of CUDA's runtime")]
pub fn runtime_version() -> Option<String> {
    let mut version: c_int = 0;
    let asked = ask(RUNTIME, |library| {
        // SAFETY: the function is of this type in every version of CUDA, and writes one number.
        unsafe {
            let get = library.get::<unsafe extern "C" fn(*mut c_int) -> c_int>(b"cudaRuntimeGetVersion").ok()?;
            (get(&raw mut version) == 0).then_some(())
        }
    });
    asked.map(|()| format!("{}.{}", version / 1000, version % 1000 / 10))
}

/// The version of cuDNN, where it has been loaded.
#[allow(unsafe_code, reason = "a call of cuDNN")]
pub fn cudnn_version() -> Option<String> {
    let version = ask(CUDNN, |library| {
        // SAFETY: the function is of this type in every version of cuDNN.
        unsafe { Some(library.get::<unsafe extern "C" fn() -> usize>(b"cudnnGetVersion").ok()?()) }
    })?;
    Some(format!("{}.{}.{}", version / 10_000, version % 10_000 / 100, version % 100))
}

/// Calls a library that has been loaded into the process already.
#[allow(unsafe_code, reason = "the loader's interface")]
fn ask<T>(name: &str, ask: impl FnOnce(&Library) -> Option<T>) -> Option<T> {
    // SAFETY: the library is only looked for among those that have been loaded: none of its code runs.
    let library = unsafe { Library::open(Some(name), RTLD_LAZY | libc::RTLD_NOLOAD) }.ok()?;
    ask(&library)
}
