//! Memory that a batch's rows are stacked in: aligned, kept from batch to batch where it is little.

use bytes::Bytes;
use std::sync::Arc;

use super::cpu::allocator::{Block, Pool, refused};
use crate::tensor::ALIGNMENT;

/// One cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

const LINE: usize = size_of::<Line>();
const _: () = assert!(LINE == ALIGNMENT);

/// Runs in a row that would have fitted in a quarter of the memory before it is given back.
const PATIENCE: u32 = 1000;

/// Tells when memory has been too much for long.
#[derive(Default)]
pub(super) struct Spare(u32);

impl Spare {
    /// Whether memory for `has` goes back, of which a run needs `needs`.
    pub(super) fn goes_back(&mut self, needs: usize, has: usize) -> bool {
        self.0 = if needs.saturating_mul(4) < has { self.0 + 1 } else { 0 };
        let goes_back = self.0 > PATIENCE;
        if goes_back {
            self.0 = 0;
        }
        goes_back
    }
}

/// Batches of more bytes are stacked in memory of the pool, for one run.
const LARGE: usize = 64 << 10;

/// The memory for one input. It keeps what small batches take; what large ones take goes back to the pool after the run, which
/// releases it when no run wants it any more.
#[derive(Default)]
pub(super) struct Buffer {
    lines: Vec<Line>,
    large: Option<Block>,
}

impl Buffer {
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
        if length > LARGE {
            let stacked = Block::stacked(pool, length, parts).map_err(refused)?;
            return Ok(self.large.insert(stacked).start());
        }
        let lines = length.div_ceil(LINE).max(1);
        if lines > self.lines.len() {
            self.lines.resize(lines, Line([0; LINE]));
        }
        let bytes = bytes_mut(&mut self.lines);
        let mut start = 0;
        for part in parts {
            bytes[start..start + part.len()].copy_from_slice(part);
            start += part.len();
        }
        Ok(bytes.as_ptr())
    }

    /// Gives the memory of a large batch back.
    pub(super) fn release_large(&mut self) {
        self.large = None;
    }
}

/// Memory of one length, for tensors that always lie at the same place.
pub(super) struct Fixed {
    lines: Box<[Line]>,
    length: usize,
}

impl Fixed {
    pub(super) fn new(length: usize) -> Self {
        Fixed { lines: vec![Line([0; LINE]); length.div_ceil(LINE)].into(), length }
    }

    #[allow(unsafe_code, reason = "a byte view of the aligned lines")]
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: a Line is 64 initialised bytes without padding, u8 has no alignment, and the length fits.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytes_mut(&mut self.lines)[..self.length]
    }
}

#[allow(unsafe_code, reason = "a byte view of the aligned lines")]
fn bytes_mut(lines: &mut [Line]) -> &mut [u8] {
    let length = size_of_val(lines);
    // SAFETY: a Line is 64 initialised bytes without padding, u8 has no alignment, and the borrow is exclusive.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), length) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cpu::allocator::{Account, Purpose};

    /// Bytes that lie `offset` bytes behind a multiple of 64.
    fn lying_at(offset: usize, length: usize) -> Bytes {
        let memory = Bytes::from(vec![7; length + 2 * LINE]);
        let start = memory.as_ptr().addr().next_multiple_of(LINE) - memory.as_ptr().addr() + offset;
        memory.slice(start..start + length)
    }

    #[test]
    fn a_single_part_is_copied_only_where_it_is_not_aligned() {
        let pool = Pool::new(Account::new(usize::MAX, false).into(), Purpose::Runs);
        for (offset, length) in [(0, 388), (0, 1 << 20), (4, 388), (16, 388), (32, 1 << 20), (63, 1)] {
            let part = lying_at(offset, length);
            let mut buffer = Buffer::default();
            let start = buffer.stack(std::iter::once(&part), &pool).unwrap();
            assert!(start.addr().is_multiple_of(LINE), "{offset} {length}");
            assert_eq!(start == part.as_ptr(), offset == 0, "{offset} {length}");
        }
    }
}
