//! Parts of a batch, copied into memory one behind the other.

use bytes::Bytes;

/// Copies the parts to the start of the target, one behind the other, and returns the number of bytes.
pub(super) fn concatenate<'p>(target: &mut [u8], parts: impl Iterator<Item = &'p Bytes>) -> usize {
    let mut end = 0;
    for part in parts {
        target[end..end + part.len()].copy_from_slice(part);
        end += part.len();
    }
    end
}
