//! Memory of the host that a device reads and writes by itself: page-locked, from the allocator that ONNX Runtime has for the
//! device.

use ort::{
    AsPointer,
    environment::Environment,
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::Session,
};
use std::{
    fmt,
    mem::ManuallyDrop,
    ptr::{self, NonNull},
    sync::{Arc, Mutex, PoisonError},
};

use super::graph_capture::while_no_graph_is_captured;
use crate::engine::{status::checked, target::Provider};

/// A kind of memory: ONNX Runtime's name of it, and the device's number.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Location(pub AllocationDevice<'static>, pub i32);

impl Location {
    /// The host's own.
    pub(in crate::engine) const CPU: Location = Location(AllocationDevice::CPU, 0);

    /// Where batches for a provider are put: the first of these that there is. Empty where it reads the host's memory as it
    /// is. Plain memory comes last: from there batches are copied too, only not beside others.
    pub(in crate::engine) fn of(provider: Provider) -> Vec<Self> {
        let Some(gpu) = provider.gpu().and_then(|gpu| i32::try_from(gpu).ok()) else { return Vec::new() };
        let pinned = AllocationDevice::CUDA_PINNED;
        vec![Location(pinned.clone(), gpu), Location(pinned, 0), Location::CPU]
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the memory {} of device {}", self.0.as_str(), self.1)
    }
}

/// An allocator of such memory.
pub(in crate::engine) struct PinnedAllocator {
    // `ort` does not promise that one may be used by several threads at once.
    allocator: ManuallyDrop<Mutex<Allocator>>,
    // Allocated memory may outlive the session, but not the provider's libraries, which the environment keeps.
    _environment: Environment,
}

impl PinnedAllocator {
    /// The allocator that a session has for the location.
    pub(in crate::engine) fn new(
        session: &Session,
        environment: &Environment,
        location: &Location,
    ) -> ort::Result<Self> {
        let Location(name, device) = location;
        let info = MemoryInfo::new(name.clone(), *device, AllocatorType::Device, MemoryType::CPUOutput)?;
        let allocator = ManuallyDrop::new(Mutex::new(Allocator::new(session, info)?));
        Ok(PinnedAllocator { allocator, _environment: environment.clone() })
    }

    /// Memory for so many bytes. What they are is not known.
    #[allow(unsafe_code, reason = "ONNX Runtime's C interface")]
    pub(in crate::engine) fn block(self: &Arc<Self>, length: usize) -> ort::Result<Block> {
        let mut start = ptr::null_mut();
        // The allocator is taken last: a thread that gives a block back does not wait for a capture.
        let allocate = || {
            let allocator = self.allocator.lock().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: the allocator lives, and nothing else uses it meanwhile. Of nothing it may give null.
            unsafe { (ort::api().AllocatorAlloc)(allocator.ptr().cast_mut(), length.max(1), &raw mut start) }
        };
        checked(while_no_graph_is_captured(allocate))?;
        let start = NonNull::new(start.cast());
        let start = start.ok_or_else(|| ort::Error::new(format!("there is no memory for {length} bytes")))?;
        Ok(Block { memory: self.clone(), start, length })
    }
}

impl Drop for PinnedAllocator {
    #[allow(unsafe_code, reason = "drops the allocator at a time of its own")]
    fn drop(&mut self) {
        // Where the session has gone before, its memory goes back to the driver with this.
        // SAFETY: it is dropped here, once, and not used any more.
        while_no_graph_is_captured(|| unsafe { ManuallyDrop::drop(&mut self.allocator) });
    }
}

/// A piece of such memory, which goes back when it is dropped.
pub(in crate::engine) struct Block {
    memory: Arc<PinnedAllocator>,
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory is the block's own, and belongs to no thread.
#[allow(unsafe_code, reason = "a raw pointer takes the automatic implementations away")]
unsafe impl Send for Block {}

impl Block {
    pub(in crate::engine) fn start(&self) -> *const u8 {
        self.start.as_ptr()
    }

    pub(in crate::engine) fn length(&self) -> usize {
        self.length
    }

    /// The same, all bytes 0.
    #[allow(unsafe_code, reason = "writes memory of ONNX Runtime's")]
    pub(in crate::engine) fn zeroed(self) -> PinnedBytes {
        // SAFETY: the block has that many bytes, which nothing else uses.
        unsafe { self.start.as_ptr().write_bytes(0, self.length) };
        PinnedBytes(self)
    }

    /// The same, to be read.
    ///
    /// # Safety
    /// All of its bytes have been written.
    #[allow(unsafe_code, reason = "what has been written is the caller's promise")]
    pub(in crate::engine) unsafe fn written(self) -> PinnedBytes {
        PinnedBytes(self)
    }
}

/// A block whose bytes have been written.
pub(in crate::engine) struct PinnedBytes(Block);

impl PinnedBytes {
    pub(in crate::engine) fn start(&self) -> *const u8 {
        self.0.start()
    }

    #[allow(unsafe_code, reason = "a byte view of the block")]
    pub(in crate::engine) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the block has that many bytes, all written, and the borrow of self is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.0.start.as_ptr(), self.0.length) }
    }
}

impl AsRef<[u8]> for PinnedBytes {
    #[allow(unsafe_code, reason = "a byte view of the block")]
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the block has that many bytes, all written, and nothing writes to them while self is borrowed.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr(), self.0.length) }
    }
}

impl Drop for Block {
    #[allow(unsafe_code, reason = "ONNX Runtime's C interface")]
    fn drop(&mut self) {
        let allocator = self.memory.allocator.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: it is of this allocator, and given back once. The allocator outlives the session that provided it.
        let freed =
            checked(unsafe { (ort::api().AllocatorFree)(allocator.ptr().cast_mut(), self.start.as_ptr().cast()) });
        if let Err(error) = freed {
            tracing::warn!(%error, "pinned memory can't be freed");
        }
    }
}
