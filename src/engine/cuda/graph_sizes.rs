//! Sizes of batches for which CUDA graphs are captured: batches are filled up to the next. Pure.

use bytes::Bytes;

use crate::engine::concatenate::concatenate;

/// The sizes for batches of at most so many rows: powers of two, and the largest batch.
pub fn buckets(max_batch_size: usize) -> Vec<usize> {
    let mut sizes: Vec<usize> =
        (0..usize::BITS).map(|bit| 1 << bit).take_while(|size| *size < max_batch_size).collect();
    sizes.push(max_batch_size);
    sizes
}

/// Writes the rows of `parts` into memory for a whole batch, and their last row again and again into what is left of it: its
/// values are some that a model can take.
pub(in crate::engine) fn fill<'p>(batch: &mut [u8], row_bytes: usize, parts: impl Iterator<Item = &'p Bytes>) {
    let end = concatenate(batch, parts);
    let Some(last) = end.checked_sub(row_bytes).filter(|_| row_bytes > 0) else { return };
    let mut next = end;
    while next + row_bytes <= batch.len() {
        batch.copy_within(last..end, next);
        next += row_bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bucket_has_less_than_twice_the_batch_rows(most in 1..5000usize, rows in 1..5000usize) {
            let sizes = buckets(most);
            prop_assert!(sizes.is_sorted_by(|first, second| first < second));
            prop_assert_eq!(sizes.last(), Some(&most));
            let bucket = sizes.iter().copied().find(|size| *size >= rows);
            prop_assert_eq!(bucket.is_some(), rows <= most);
            if let Some(bucket) = bucket {
                prop_assert!(bucket < 2 * rows);
            }
        }

        #[test]
        fn padding_repeats_the_last_row(
            row_bytes in 0..9usize,
            rows in prop::collection::vec(1..4usize, 1..6),
            spare in 0..8usize,
        ) {
            let mut bytes = 0u8..;
            let mut part = |rows: usize| -> Bytes { bytes.by_ref().take(rows * row_bytes).collect::<Vec<_>>().into() };
            let parts: Vec<Bytes> = rows.iter().map(|rows| part(*rows)).collect();
            let whole = parts.concat();
            let count: usize = rows.iter().sum();
            let mut batch = vec![255; (count + spare) * row_bytes];
            fill(&mut batch, row_bytes, parts.iter());
            prop_assert_eq!(&batch[..whole.len()], &whole[..]);
            let last = &whole[whole.len() - row_bytes..];
            for row in batch[whole.len()..].chunks(row_bytes.max(1)) {
                prop_assert_eq!(row, last);
            }
        }
    }
}
