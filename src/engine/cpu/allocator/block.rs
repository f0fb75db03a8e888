//! Blocks of memory from the operating system, each behind a header that names its pool.

use std::{
    ffi::c_void,
    mem::MaybeUninit,
    ptr::{self, NonNull},
};

/// Bytes in front of a block's memory. ONNX Runtime's kernels want 64-byte alignment, so the header is one such unit.
pub(super) const HEADER: usize = 64;

/// ONNX Runtime's integer kernels read up to 30 bytes behind their operands on ARM.
const OVERRUN: usize = if cfg!(target_arch = "aarch64") { 64 } else { 0 };

/// Blocks of this size and more are mappings of their own: releasing one gives its pages back to the system at once.
pub(super) const MIN_MAPPED: usize = 256 << 10;

/// The largest block. No machine has as much; sums of two such sizes can't overflow.
const MAX_BLOCK: usize = 1 << 47;

/// The description of a block, which lies in front of its memory.
#[repr(C, align(64))]
pub(super) struct BlockHeader {
    /// The pool that the block came from, of which a reference is held while the block is in use; null while it is kept.
    pub pool: *const c_void,
    /// Size of the block with this header.
    pub bytes: usize,
    /// The next kept block of the same size; meaningful only while the block is kept.
    pub next: *mut BlockHeader,
    /// Address that `malloc` returned; null for a mapping.
    start: *mut c_void,
    /// The number of blocks that the pool had taken back when it took back this one.
    pub last_used: u64,
    /// True if nothing has written to the memory since the system zeroed it.
    pub is_zero: bool,
}

const _: () = assert!(size_of::<BlockHeader>() == HEADER);

/// Size of the block for a tensor of `length` bytes; `None` if no machine can have it. Few sizes, so that blocks fit again:
/// multiples of 64 bytes up to 1 KiB, then eight for each power of two.
pub(super) fn block_size(length: usize) -> Option<usize> {
    let needed = length.checked_add(HEADER + OVERRUN).filter(|needed| *needed <= MAX_BLOCK)?;
    let step = (needed.next_power_of_two() / 16).max(64);
    Some(needed.next_multiple_of(step))
}

/// A new block of a size that [`block_size`] gave, or `None` if the system has no memory. Only size and origin are set.
#[allow(unsafe_code, reason = "gets memory from the system and writes the header in it")]
pub(super) fn obtain(bytes: usize) -> Option<NonNull<BlockHeader>> {
    let is_mapped = bytes >= MIN_MAPPED;
    let (start, header): (*mut c_void, *mut BlockHeader) = if is_mapped {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory that exists.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), bytes, access, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        (ptr::null_mut(), start.cast())
    } else {
        // `malloc` aligns to 16 bytes: with 48 more there is a multiple of 64 in front of enough memory.
        // SAFETY: `malloc` may be called with any size.
        let start = unsafe { libc::malloc(bytes + HEADER - 16) };
        (start, start.map_addr(|address| address.next_multiple_of(HEADER)).cast())
    };
    let header = NonNull::new(header)?;
    let value =
        BlockHeader { pool: ptr::null(), bytes, next: ptr::null_mut(), start, last_used: 0, is_zero: is_mapped };
    // SAFETY: at least `bytes` bytes lie at `header`, which is aligned to 64; nothing else knows of them yet.
    unsafe { header.cast::<MaybeUninit<BlockHeader>>().as_mut().write(value) };
    Some(header)
}

/// Gives a block back to the system.
///
/// # Safety
/// The block is of [`obtain`], and nothing uses it any more.
#[allow(unsafe_code, reason = "that nothing uses the block is the caller's promise")]
pub(super) unsafe fn give_back(header: NonNull<BlockHeader>) {
    // SAFETY: the header is valid while the block is.
    let (start, bytes) = unsafe { (header.as_ref().start, header.as_ref().bytes) };
    // SAFETY: the mapping or piece of memory is the one that `obtain` got, and goes back once.
    unsafe {
        if start.is_null() {
            libc::munmap(header.as_ptr().cast(), bytes);
        } else {
            libc::free(start);
        }
    }
}

/// The memory of a block.
#[allow(unsafe_code, reason = "pointer arithmetic in a block")]
pub(super) fn memory(header: NonNull<BlockHeader>) -> NonNull<u8> {
    // SAFETY: a block is larger than its header.
    unsafe { header.cast::<u8>().add(HEADER) }
}

/// The header of the block that `memory` is the memory of.
///
/// # Safety
/// `memory` came from [`memory`].
#[allow(unsafe_code, reason = "pointer arithmetic in a block")]
pub(super) unsafe fn header(memory: NonNull<u8>) -> NonNull<BlockHeader> {
    // SAFETY: the header lies in front of the memory.
    unsafe { memory.sub(HEADER) }.cast()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: usize = 4096;

    proptest! {
        #[test]
        fn blocks_waste_an_eighth_at_most(length in 0_usize..1 << 40) {
            let bytes = block_size(length).unwrap();
            prop_assert!(bytes >= length + HEADER);
            prop_assert!(bytes <= (length + HEADER + OVERRUN) / 8 * 9 + 64);
            prop_assert_eq!(bytes % 64, 0);
            prop_assert!(bytes < MIN_MAPPED || bytes.is_multiple_of(PAGE));
            prop_assert_eq!(block_size(bytes - HEADER - OVERRUN), Some(bytes));
        }
    }

    #[test]
    fn sizes_that_no_machine_has_are_refused() {
        assert_eq!(block_size(usize::MAX), None);
        assert_eq!(block_size(1 << 48), None);
    }
}
