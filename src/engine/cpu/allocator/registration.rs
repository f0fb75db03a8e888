//! Registration of the allocator with ONNX Runtime, and the functions that ONNX Runtime calls.

use libloading::os::unix::{Library, RTLD_NOW, Symbol};
use ort::{
    AsPointer,
    environment::Environment,
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    sys,
};
use std::{
    ffi::c_void,
    mem,
    path::Path,
    process,
    ptr::{self, NonNull},
    sync::{Arc, OnceLock},
};

use super::{
    account::{Account, Purpose},
    pool::Pool,
    scope, sweeper,
};
use crate::engine::status::checked;

/// Throws C++'s `std::bad_alloc`.
type Throw = unsafe extern "C-unwind" fn() -> !;

/// The allocator's state, for when ONNX Runtime calls it.
struct AllocatorState {
    /// The description of the memory, for ONNX Runtime.
    info: *const sys::OrtMemoryInfo,
    /// Memory that is asked for outside of runs and loads.
    other: Arc<Pool>,
    /// Function that refuses; `None` where the C++ library has no such function: then nothing is refused.
    throw: Option<Throw>,
}

// SAFETY: the description is never changed after it was made, and never freed.
#[allow(unsafe_code, reason = "a raw pointer takes the automatic implementations away")]
unsafe impl Send for AllocatorState {}
// SAFETY: as above.
#[allow(unsafe_code, reason = "a raw pointer takes the automatic implementations away")]
unsafe impl Sync for AllocatorState {}

static STATE: OnceLock<AllocatorState> = OnceLock::new();

/// The session option with which a session uses the environment's allocators.
pub(in crate::engine) const SESSION_OPTION: (&str, &str) = ("session.use_env_allocators", "1");

/// Registers the allocator with the environment of the library that was loaded from this file.
#[allow(unsafe_code, reason = "ONNX Runtime's C interface")]
pub(in crate::engine) fn register(environment: &Environment, library: &Path) -> ort::Result<()> {
    if STATE.get().is_some() {
        return Ok(());
    }
    // Both live as long as the environment, which is as long as the process.
    let info = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default)?;
    let info: &'static MemoryInfo<'static> = Box::leak(info.into());
    let throw = throw(library);
    if throw.is_none() {
        tracing::warn!(
            library = %library.display(),
            error = "ONNX Runtime's library is linked to no C++ library that can be made to throw",
            "max_run_memory is not enforced"
        );
    }
    let other = Pool::new(Account::new(usize::MAX, false).into(), Purpose::Other);
    if STATE.set(AllocatorState { info: info.ptr(), other, throw }).is_err() {
        return Ok(());
    }
    // SAFETY: it has plain fields of numbers and optional functions.
    let mut allocator = unsafe { sys::OrtAllocator::default() };
    // SAFETY: C++ calls the functions, which don't differ in how they are called but in that they may unwind.
    unsafe {
        allocator.Alloc = Some(mem::transmute::<
            unsafe extern "C-unwind" fn(*mut sys::OrtAllocator, usize) -> *mut c_void,
            unsafe extern "system" fn(*mut sys::OrtAllocator, usize) -> *mut c_void,
        >(alloc));
        allocator.Reserve = Some(mem::transmute::<
            unsafe extern "C-unwind" fn(*const sys::OrtAllocator, usize) -> *mut c_void,
            unsafe extern "system" fn(*const sys::OrtAllocator, usize) -> *mut c_void,
        >(reserve));
    }
    allocator.Free = Some(free);
    allocator.Info = Some(describe);
    let allocator: &'static mut sys::OrtAllocator = Box::leak(allocator.into());
    // SAFETY: the environment lives, and the allocator is never freed.
    checked(unsafe { (ort::api().RegisterAllocator)(environment.ptr().cast_mut(), allocator) })?;
    sweeper::start();
    Ok(())
}

/// The function that throws in the C++ library that ONNX Runtime's library is linked to.
#[allow(unsafe_code, reason = "looks up a function of a library")]
fn throw(library: &Path) -> Option<Throw> {
    // SAFETY: the library is loaded already: this adds a reference.
    let library = unsafe { Library::open(Some(library), RTLD_NOW) }.ok()?;
    // SAFETY: `std::__throw_bad_alloc()` of libstdc++ takes nothing and never returns.
    let throw: Symbol<Throw> = unsafe { library.get(b"_ZSt17__throw_bad_allocv\0") }.ok()?;
    let throw = *throw;
    // Neither library goes while the process lives.
    mem::forget(library);
    Some(throw)
}

#[allow(unsafe_code, reason = "a function that ONNX Runtime calls")]
unsafe extern "C-unwind" fn alloc(_: *mut sys::OrtAllocator, length: usize) -> *mut c_void {
    allocate(length)
}

#[allow(unsafe_code, reason = "a function that ONNX Runtime calls")]
unsafe extern "C-unwind" fn reserve(_: *const sys::OrtAllocator, length: usize) -> *mut c_void {
    allocate(length)
}

/// Memory for ONNX Runtime; null for no bytes, as its own allocators have it. Throws where there is none.
#[allow(unsafe_code, reason = "throws a C++ exception")]
fn allocate(length: usize) -> *mut c_void {
    let Some(state) = STATE.get().filter(|_| length > 0) else { return ptr::null_mut() };
    match (scope::allocate(length, &state.other, state.throw.is_some()), state.throw) {
        (Some(memory), _) => memory.as_ptr(),
        // SAFETY: no value of the frames between here and ONNX Runtime has to be dropped, and they may be unwound.
        (None, Some(throw)) => unsafe { throw() },
        // ONNX Runtime would write to null.
        (None, None) => {
            tracing::error!(bytes = length, "no memory left, process aborted");
            process::abort()
        }
    }
}

#[allow(unsafe_code, reason = "a function that ONNX Runtime calls")]
unsafe extern "system" fn free(_: *mut sys::OrtAllocator, memory: *mut c_void) {
    if let Some(memory) = NonNull::new(memory) {
        // SAFETY: ONNX Runtime frees what `alloc` or `reserve` gave it, once.
        unsafe { scope::give_back(memory) };
    }
}

#[allow(unsafe_code, reason = "a function that ONNX Runtime calls")]
unsafe extern "system" fn describe(_: *const sys::OrtAllocator) -> *const sys::OrtMemoryInfo {
    STATE.get().map_or(ptr::null(), |state| state.info)
}
