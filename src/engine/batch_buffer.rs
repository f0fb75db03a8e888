//! Memory that a batch's rows are stacked in: aligned, kept from batch to batch where it is little.

use bytes::Bytes;
use std::sync::Arc;

use super::{
    concatenate::concatenate,
    cpu::allocator::{Pool, PooledBytes, refused},
};
use crate::tensor::ALIGNMENT;

/// Bytes of one cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct CacheLine([u8; 64]);

const CACHE_LINE: usize = size_of::<CacheLine>();
const _: () = assert!(CACHE_LINE == ALIGNMENT);

/// Number of runs in a row that need less than a quarter of the memory before it is given back.
const MAX_SPARE_RUNS: u32 = 1000;

/// Counts runs in a row for which memory was too much.
#[derive(Default)]
pub(super) struct Spare(u32);

impl Spare {
    /// Counts a run that needs `needs` bytes of `has`. True if the memory is to be given back.
    pub(super) fn goes_back(&mut self, needs: usize, has: usize) -> bool {
        self.0 = if needs.saturating_mul(4) < has { self.0 + 1 } else { 0 };
        let goes_back = self.0 > MAX_SPARE_RUNS;
        if goes_back {
            self.0 = 0;
        }
        goes_back
    }
}

/// Bytes of a batch from which on it is stacked in memory of the pool, for one run.
const MIN_POOLED_BYTES: usize = 64 << 10;

/// The memory for one input. It keeps what small batches take; what large ones take goes back to the pool after the run, which
/// releases it when no run wants it any more.
#[derive(Default)]
pub(super) struct InputBuffer {
    lines: Vec<CacheLine>,
    large: Option<PooledBytes>,
}

impl InputBuffer {
    /// A pointer to the parts, one behind the other, aligned to 64 bytes. A single part that is aligned already is pointed to
    /// where it is; otherwise the parts are copied into this buffer. Valid until the next call, and as long as the parts.
    ///
    /// # Errors
    /// There is no memory for a large batch.
    pub(super) fn stack<'p>(
        &mut self,
        parts: impl Iterator<Item = &'p Bytes> + Clone,
        pool: &Arc<Pool>,
    ) -> ort::Result<*const u8> {
        let mut rest = parts.clone();
        if let (Some(only), None) = (rest.next(), rest.next())
            && only.as_ptr().addr().is_multiple_of(ALIGNMENT)
        {
            return Ok(only.as_ptr());
        }
        let length = parts.clone().map(Bytes::len).sum::<usize>();
        if length > MIN_POOLED_BYTES {
            let stacked = PooledBytes::stacked(pool, length, parts).map_err(refused)?;
            return Ok(self.large.insert(stacked).start());
        }
        let lines = length.div_ceil(CACHE_LINE).max(1);
        if lines > self.lines.len() {
            self.lines.resize(lines, CacheLine([0; CACHE_LINE]));
        }
        let bytes = bytes_mut(&mut self.lines);
        concatenate(bytes, parts);
        Ok(bytes.as_ptr())
    }

    /// Gives the memory of a large batch back.
    pub(super) fn release_large(&mut self) {
        self.large = None;
    }
}

/// Memory of one length, for tensors that always lie at the same place.
pub(super) struct Fixed {
    lines: Box<[CacheLine]>,
    length: usize,
}

impl Fixed {
    pub(super) fn new(length: usize) -> Self {
        Fixed { lines: vec![CacheLine([0; CACHE_LINE]); length.div_ceil(CACHE_LINE)].into(), length }
    }

    #[allow(unsafe_code, reason = "a byte view of the aligned lines")]
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: a CacheLine is 64 initialised bytes without padding, u8 has no alignment, and the length fits.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytes_mut(&mut self.lines)[..self.length]
    }
}

#[allow(unsafe_code, reason = "a byte view of the aligned lines")]
fn bytes_mut(lines: &mut [CacheLine]) -> &mut [u8] {
    let length = size_of_val(lines);
    // SAFETY: a CacheLine is 64 initialised bytes without padding, u8 has no alignment, and the borrow is exclusive.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), length) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cpu::allocator::{Account, Purpose};

    /// Bytes that lie `offset` bytes behind a multiple of 64.
    fn lying_at(offset: usize, length: usize) -> Bytes {
        let memory = Bytes::from(vec![7; length + 2 * CACHE_LINE]);
        let start = memory.as_ptr().addr().next_multiple_of(CACHE_LINE) - memory.as_ptr().addr() + offset;
        memory.slice(start..start + length)
    }

    #[test]
    fn single_part_is_copied_only_when_unaligned() {
        let pool = Pool::new(Account::new(usize::MAX, false).into(), Purpose::Runs);
        for (offset, length) in [(0, 388), (0, 1 << 20), (4, 388), (16, 388), (32, 1 << 20), (63, 1)] {
            let part = lying_at(offset, length);
            let mut buffer = InputBuffer::default();
            let start = buffer.stack(std::iter::once(&part), &pool).unwrap();
            assert!(start.addr().is_multiple_of(CACHE_LINE), "{offset} {length}");
            assert_eq!(start == part.as_ptr(), offset == 0, "{offset} {length}");
        }
    }
}
