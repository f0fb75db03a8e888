//! Memory that the C library has not given back to the system: bodies of requests and answers that are gone leave it behind.

use std::fs;

/// Unused memory that is left in the heap, beside a quarter of what the process has.
const MIN_UNUSED: usize = 16 << 20;

/// Sweeps in a row that see unused memory before it is given back: under load there is always some, which is wanted again.
const MIN_SIGHTINGS: u32 = 2;

const PAGE: usize = 4096;

/// The state of the watch over the heap.
pub(super) struct Heap {
    /// The process's memory after it was last trimmed.
    trimmed: usize,
    sightings: u32,
}

impl Heap {
    /// The heap as it is.
    pub(super) fn new() -> Self {
        Heap { trimmed: resident().unwrap_or(0), sightings: 0 }
    }

    /// Gives memory back to the system that has been unused for some time. Every thread that allocates waits meanwhile, for about
    /// a millisecond, so it happens only where it is worth that.
    pub(super) fn trim_unused(&mut self) {
        let Some(resident) = resident() else { return };
        self.trimmed = self.trimmed.min(resident);
        // Nothing to gain: the process has hardly more than it needed after the last time.
        if resident < self.trimmed + MIN_UNUSED {
            self.sightings = 0;
            return;
        }
        let is_worth_it = unused().is_some_and(|unused| unused > MIN_UNUSED && unused > resident / 4);
        self.sightings = if is_worth_it { self.sightings + 1 } else { 0 };
        if self.sightings >= MIN_SIGHTINGS {
            self.sightings = 0;
            trim();
            self.trimmed = self::resident().unwrap_or(resident);
        }
    }
}

/// Bytes of memory that the process has.
fn resident() -> Option<usize> {
    let pages: usize = fs::read_to_string("/proc/self/statm").ok()?.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * PAGE)
}

/// Bytes that are free in the heap of the C library. Unknown before glibc 2.33.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "calls a function of the C library")]
fn unused() -> Option<usize> {
    use libloading::os::unix::{Library, Symbol};
    let library = Library::this();
    // SAFETY: glibc declares the function with this signature.
    let mallinfo2: Symbol<unsafe extern "C" fn() -> libc::mallinfo2> = unsafe { library.get(b"mallinfo2\0") }.ok()?;
    // SAFETY: it may be called at any time by any thread.
    Some(unsafe { mallinfo2() }.fordblks)
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "calls a function of the C library")]
fn trim() {
    // SAFETY: it takes a number, and may be called at any time by any thread.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries have no such figure, and give back by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn unused() -> Option<usize> {
    None
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}
