//! Where the elements of a tensor lie in memory.

use bytes::{Buf, Bytes};

/// Alignment of what ONNX Runtime reads, in bytes: one cache line, which is more than any element needs. Its kernels add in another
/// order where memory is aligned to less, so that an answer's last bits would hang on where a tensor happened to lie.
pub const ALIGNMENT: usize = 64;

/// Smaller data is not worth a move: a run copies it.
const MIN_MOVED: usize = 64 << 10;

/// Aligns large data to [`ALIGNMENT`] bytes within its memory where nothing else holds that: a run then takes it as it is. So it is
/// with decoded elements, and not with slices of a message.
pub(super) fn aligned(data: Bytes) -> Bytes {
    let address = data.as_ptr().addr();
    if data.len() < MIN_MOVED || address.is_multiple_of(ALIGNMENT) {
        return data;
    }
    let mut own = match data.try_into_mut() {
        Ok(own) => own,
        Err(shared) => return shared,
    };
    let length = own.len();
    own.reserve(ALIGNMENT - 1);
    let start = own.as_ptr().addr().wrapping_neg() % ALIGNMENT;
    own.resize(start + length, 0);
    own.copy_within(0..length, start);
    own.advance(start);
    own.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_data_of_its_own_is_aligned_and_unchanged() {
        for length in [MIN_MOVED, 100_000, 1 << 20] {
            let data: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
            let bytes = aligned(Bytes::from(data.clone()));
            assert_eq!(bytes, data);
            assert!(bytes.as_ptr().addr().is_multiple_of(ALIGNMENT), "{length}");
            let message = Bytes::from(data);
            let shared = message.slice(1..);
            assert_eq!(aligned(shared.clone()).as_ptr(), shared.as_ptr());
        }
    }
}
