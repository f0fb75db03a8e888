//! Memory that the server and a worker share: an anonymous file that both map.
//!
//! The server lays the file out, in regions; the worker maps what the server names. The file is sealed against shrinking, so that no
//! page that the server has mapped can be taken away from it.

use rustix::{
    fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create},
    io,
    mm::{MapFlags, ProtFlags, mmap, munmap},
};
use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd},
    ptr::{self, NonNull},
};

/// An anonymous file.
pub(super) struct SharedFile(File);

impl SharedFile {
    /// An empty one.
    pub(super) fn create() -> io::Result<Self> {
        let file = memfd_create("onnxd-worker", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        fcntl_add_seals(&file, SealFlags::SHRINK)?;
        Ok(SharedFile(file.into()))
    }

    /// The one that a worker was started with.
    pub(super) fn inherited(file: File) -> Self {
        SharedFile(file)
    }

    pub(super) fn file(&self) -> &File {
        &self.0
    }

    /// Makes it this long. It must not have been longer.
    pub(super) fn grow(&self, length: u64) -> io::Result<()> {
        ftruncate(&self.0, length)
    }

    /// Gives a part of it pages, so that to write there can't fail.
    pub(super) fn back(&self, offset: u64, length: u64) -> io::Result<()> {
        if length == 0 { Ok(()) } else { fallocate(&self.0, FallocateFlags::empty(), offset, length) }
    }

    /// Gives the pages of a part back to the system.
    pub(super) fn release(&self, offset: u64, length: u64) {
        if length > 0 {
            let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // A kernel that can't do this keeps the pages until the file is closed.
            let _ = fallocate(&self.0, mode, offset, length);
        }
    }
}

impl AsFd for SharedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A part of the file in the memory of this process.
pub(super) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory is the mapping's own and belongs to no thread.
#[allow(unsafe_code, reason = "a raw pointer takes the automatic implementations away")]
unsafe impl Send for Mapping {}
// SAFETY: a shared reference only reads.
#[allow(unsafe_code, reason = "a raw pointer takes the automatic implementations away")]
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `length` bytes from `offset`, a multiple of the page size. `length` is not 0.
    #[allow(unsafe_code, reason = "maps memory")]
    pub(super) fn new(file: &SharedFile, offset: u64, length: usize) -> io::Result<Self> {
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: the system chooses an address where nothing is mapped.
        let start = unsafe { mmap(ptr::null_mut(), length, access, flags, file, offset) }?;
        let start = NonNull::new(start.cast()).ok_or(io::Errno::NOMEM)?;
        Ok(Mapping { start, length })
    }

    pub(super) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The first bytes of it, as many as there are at most.
    #[allow(unsafe_code, reason = "a byte view of mapped memory")]
    pub(super) fn bytes(&self, length: usize) -> &[u8] {
        // SAFETY: the mapping has that many bytes and lives as long as self. The other process writes to them only before it
        // hands them over; should it break that, bytes change while they are read, and nothing relies on what they were.
        unsafe { std::slice::from_raw_parts(self.start(), length.min(self.length)) }
    }

    /// The same, to be written.
    #[allow(unsafe_code, reason = "a byte view of mapped memory")]
    pub(super) fn bytes_mut(&mut self, length: usize) -> &mut [u8] {
        // SAFETY: as above, and the borrow of self is exclusive in this process.
        unsafe { std::slice::from_raw_parts_mut(self.start(), length.min(self.length)) }
    }
}

impl Drop for Mapping {
    #[allow(unsafe_code, reason = "unmaps memory")]
    fn drop(&mut self) {
        // SAFETY: it was mapped as a whole by `new`, and nothing borrows it any more.
        let _ = unsafe { munmap(self.start().cast(), self.length) };
    }
}
