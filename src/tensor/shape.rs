//! Shapes: the extents of a tensor's axes.

use std::fmt::{self, Display, Write as _};

use super::datatype::Datatype;
use crate::error::{Error, Result};

/// Extents of a tensor's axes; no axes at all (rank 0) is a scalar. The number of bytes is checked against overflow where it
/// is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shape(Vec<usize>);

/// Largest extent of a tensor without elements that comes over the wire.
const MAX_EMPTY_EXTENT: usize = 1 << 16;

impl Shape {
    /// A shape with these extents.
    pub fn new(extents: Vec<usize>) -> Self {
        Shape(extents)
    }

    /// A shape as the wire has it: signed.
    ///
    /// # Errors
    /// A negative extent, or a large one in a tensor without elements: nothing on the wire stands for it, but what a model
    /// makes of it may take memory without end.
    pub fn from_wire(extents: &[i64]) -> Result<Self> {
        let extent = |&extent: &i64| {
            usize::try_from(extent).map_err(|_| {
                Error::invalid(format!(
                    "shape {extents:?} has a negative extent {extent}; give the extent that the data has"
                ))
            })
        };
        let shape = extents.iter().map(extent).collect::<Result<_>>().map(Shape)?;
        match shape.0.iter().max() {
            Some(&largest) if largest > MAX_EMPTY_EXTENT && shape.0.contains(&0) => Err(Error::invalid(format!(
                "shape {shape} has no elements; an extent beside 0 is at most {MAX_EMPTY_EXTENT} then, got {largest}"
            ))),
            _ => Ok(shape),
        }
    }

    /// The extents.
    pub fn extents(&self) -> &[usize] {
        &self.0
    }

    /// The extents as the wire has them.
    pub fn to_wire(&self) -> impl Iterator<Item = i64> {
        self.0.iter().map(|&extent| extent as i64)
    }

    /// Extent of axis 0; 1 for a scalar.
    pub fn rows(&self) -> usize {
        self.0.first().copied().unwrap_or(1)
    }

    /// Number of elements.
    ///
    /// # Errors
    /// It does not fit in the address space.
    pub fn elements(&self) -> Result<usize> {
        // A zero anywhere makes the tensor empty, however absurd the other extents.
        if self.0.contains(&0) {
            return Ok(0);
        }
        let product = self.0.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
        product.ok_or_else(|| Error::invalid(format!("shape {self} has more elements than memory can hold")))
    }

    /// Number of bytes that elements of `datatype` take in this shape; `None` for BYTES, whose elements differ.
    ///
    /// # Errors
    /// It does not fit in the address space.
    pub fn bytes(&self, datatype: Datatype) -> Result<Option<usize>> {
        let elements = self.elements()?;
        let Some(size) = datatype.size() else { return Ok(None) };
        let bytes = elements.checked_mul(size).filter(|&bytes| isize::try_from(bytes).is_ok());
        let too_many = || Error::invalid(format!("shape {self} of {datatype} has more bytes than memory can hold"));
        bytes.map(Some).ok_or_else(too_many)
    }

    /// The same shape with another extent of axis 0.
    pub(crate) fn with_rows(&self, rows: usize) -> Shape {
        let mut extents = self.0.clone();
        if let Some(first) = extents.first_mut() {
            *first = rows;
        }
        Shape(extents)
    }
}

impl Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(f, &self.0)
    }
}

/// `[a,b,c]`, as error messages and logs show shapes.
pub(super) fn write_list<T: Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    f.write_char('[')?;
    for (index, item) in items.iter().enumerate() {
        let separator = if index == 0 { "" } else { "," };
        write!(f, "{separator}{item}")?;
    }
    f.write_char(']')
}
