//! Bytes in memory of a pool.

use bytes::Bytes;
use std::{ptr::NonNull, sync::Arc};

use super::{
    pool::{Pool, free},
    refusal::AllocationRefusal,
};

/// Bytes in memory of a pool, which goes back to it when they are dropped.
pub(in crate::engine) struct PooledBytes {
    memory: NonNull<u8>,
}

// SAFETY: the bytes belong to no thread, and are reached through their owner only.
#[allow(unsafe_code, reason = "a raw pointer takes the automatic implementations away")]
unsafe impl Send for PooledBytes {}

impl PooledBytes {
    /// Copies the parts, `length` bytes in all, one behind the other into memory of a pool.
    #[allow(unsafe_code, reason = "fills memory of the pool")]
    pub(in crate::engine) fn stacked<'p>(
        pool: &Arc<Pool>,
        length: usize,
        parts: impl Iterator<Item = &'p Bytes>,
    ) -> Result<Self, AllocationRefusal> {
        let (memory, _) = pool.allocate(length, false)?;
        let bytes = PooledBytes { memory };
        let mut filled = 0;
        for part in parts {
            assert!(part.len() <= length - filled, "the parts are longer than they were");
            // SAFETY: the memory has `length` bytes, which nothing else knows of, so there is room and no overlap.
            unsafe { memory.add(filled).copy_from_nonoverlapping(NonNull::from(&**part).cast(), part.len()) };
            filled += part.len();
        }
        Ok(bytes)
    }

    /// Where the bytes lie.
    pub(in crate::engine) fn start(&self) -> *const u8 {
        self.memory.as_ptr()
    }
}

impl Drop for PooledBytes {
    #[allow(unsafe_code, reason = "gives the memory back to its pool")]
    fn drop(&mut self) {
        // SAFETY: the memory came from a pool, and goes back once.
        unsafe { free(self.memory) };
    }
}
