//! Encoding of BYTES elements in memory and on the wire: the length of each, 32 bits little-endian, and so many bytes (Triton's
//! binary tensor data extension).

use bytes::Bytes;
use std::sync::Arc;

use super::shape::Shape;
use crate::error::{Error, Result};

/// Size of the length in front of an element.
const PREFIX: usize = size_of::<u32>();

/// The elements of a BYTES tensor, one after the other. Ends early where the data does.
#[derive(Debug, Clone)]
pub struct BytesElements<'a> {
    rest: &'a [u8],
}

impl<'a> BytesElements<'a> {
    /// Over the data of a BYTES tensor.
    pub fn new(data: &'a [u8]) -> Self {
        BytesElements { rest: data }
    }

    /// Bytes that have not been read yet.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for BytesElements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (prefix, behind) = self.rest.split_first_chunk::<PREFIX>()?;
        let (element, rest) = behind.split_at_checked(u32::from_le_bytes(*prefix) as usize)?;
        self.rest = rest;
        Some(element)
    }
}

/// Appends an element.
///
/// # Errors
/// It is longer than its length can say.
pub fn push_bytes_element(data: &mut Vec<u8>, element: &[u8]) -> Result<(), String> {
    let length = u32::try_from(element.len()).map_err(|_| {
        format!("an element of BYTES has less than {} bytes, got {} bytes", 1u64 << u32::BITS, element.len())
    })?;
    data.extend_from_slice(&length.to_le_bytes());
    data.extend_from_slice(element);
    Ok(())
}

/// Elements between two marks.
pub(super) const MARK_INTERVAL: usize = 4096;

/// Intervals of a tensor that has marks, at least. To walk over so many takes less than 100 us.
const MIN_INTERVALS: usize = 4;

/// Positions of elements of a large tensor, at a fixed interval. The elements are of different lengths: without marks the way to
/// one of them leads over all before it.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks(Option<Arc<MarkedPositions>>);

#[derive(Debug)]
struct MarkedPositions {
    /// Elements between two marks.
    interval: usize,
    /// Position of each mark in the data. The first one is an interval behind the start.
    positions: Vec<usize>,
}

impl Marks {
    /// The last marked element that is not behind this one, with its position; `None` where that is the first.
    pub(super) fn before(&self, element: usize) -> Option<(usize, usize)> {
        let MarkedPositions { interval, positions } = &**self.0.as_ref()?;
        let number = (element / interval).min(positions.len());
        let position = *positions.get(number.checked_sub(1)?)?;
        Some((number * interval, position))
    }
}

/// Checks that the data is as many elements as the shape says, and nothing more. Marks elements on the way.
pub(super) fn check(shape: &Shape, data: &Bytes) -> Result<Marks> {
    check_with_marks(shape, data, MARK_INTERVAL)
}

/// Checks data as [`check`] does, with so many elements between two marks.
pub(super) fn check_with_marks(shape: &Shape, data: &Bytes, interval: usize) -> Result<Marks> {
    let expected = shape.elements()?;
    let mut elements = BytesElements::new(data);
    let (mut count, mut positions) = (0, Vec::new());
    if expected < MIN_INTERVALS * interval {
        count = elements.by_ref().count();
    } else {
        loop {
            let counted = elements.by_ref().take(interval).count();
            count += counted;
            if counted < interval {
                break;
            }
            positions.push(data.len() - elements.left());
        }
    }
    match elements.rest {
        [] if count == expected && positions.is_empty() => Ok(Marks::default()),
        [] if count == expected => Ok(Marks(Some(Arc::new(MarkedPositions { interval, positions })))),
        [] => Err(Error::invalid(format!("shape {shape} of BYTES has {expected} elements, got {count} elements"))),
        rest if rest.len() < PREFIX => Err(Error::invalid(format!(
            "element {count} of BYTES begins with its length in {PREFIX} bytes, got {} bytes",
            rest.len()
        ))),
        rest => {
            let length = rest.first_chunk().map_or(0, |prefix| u32::from_le_bytes(*prefix));
            let left = rest.len() - PREFIX;
            Err(Error::invalid(format!("element {count} of BYTES takes {length} bytes, got {left} bytes")))
        }
    }
}
