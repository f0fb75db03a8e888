//! Page-locked memory that a batch's rows are stacked in, for a device to fetch.

use bytes::Bytes;
use std::sync::Arc;

use super::pinned_memory::{PinnedAllocator, PinnedBytes};
use crate::engine::{batch_buffer::Spare, concatenate::concatenate};

/// The memory for one input: kept from batch to batch, given back after an unusually large one.
#[derive(Default)]
pub(in crate::engine) struct StagingBuffer {
    written: Option<PinnedBytes>,
    spare: Spare,
}

impl StagingBuffer {
    /// A pointer to the parts, one behind the other, copied. Valid until the next call.
    pub(in crate::engine) fn stack<'p>(
        &mut self,
        memory: &Arc<PinnedAllocator>,
        parts: impl Iterator<Item = &'p Bytes> + Clone,
    ) -> ort::Result<*const u8> {
        let length = parts.clone().map(Bytes::len).sum::<usize>();
        let written = self.reserve(memory, length)?;
        concatenate(written.bytes_mut(), parts);
        Ok(written.start())
    }

    fn reserve(&mut self, memory: &Arc<PinnedAllocator>, length: usize) -> ort::Result<&mut PinnedBytes> {
        let has = self.written.as_ref().map_or(0, |written| written.as_ref().len());
        let fits = length <= has && !self.spare.goes_back(length, has);
        let kept = self.written.take().filter(|_| fits);
        let written = match kept {
            Some(written) => written,
            None => memory.block(length)?.zeroed(),
        };
        Ok(self.written.insert(written))
    }
}
