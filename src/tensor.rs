//! Tensors, what a model takes and gives, and requests: the words that every room speaks. Values only: no sockets, no
//! threads, no files.

mod alignment;
mod bytes_elements;
mod datatype;
mod difference;
mod request;
mod rows;
mod shape;
mod signature;
mod zero_extents;

pub use alignment::ALIGNMENT;
use bytes_elements::Marks;
pub use bytes_elements::{BytesElements, push_bytes_element};
pub use datatype::Datatype;
pub use difference::{Difference, Tolerance, first_difference};
pub use request::{Inputs, ModelInputs, NamedTensor, Output, OutputTensor, Request};
pub use rows::{RowCutter, concatenate};
pub use shape::Shape;
use shape::write_list;
pub use signature::{Dimension, Signature, TensorSpec};
pub use zero_extents::ZeroExtents;

use crate::error::{Error, Result};
use bytes::Bytes;

// Elements travel and are stored little-endian, and go to ONNX Runtime as they are.
#[cfg(target_endian = "big")]
compile_error!("onnxd needs a little-endian machine: the protocol's tensors are little-endian");

/// A tensor: shared storage with a view. The bytes may be a slice of a message from the wire or of a batch's output; cloning
/// and slicing copy nothing. Elements are row-major and little-endian, one byte each for BOOL; those of BYTES stand one behind
/// the other, each behind its length ([`BytesElements`]).
#[derive(Debug, Clone)]
pub struct Tensor {
    datatype: Datatype,
    shape: Shape,
    data: Bytes,
    /// Of BYTES.
    marks: Marks,
}

impl PartialEq for Tensor {
    fn eq(&self, other: &Self) -> bool {
        (self.datatype, &self.shape, &self.data) == (other.datatype, &other.shape, &other.data)
    }
}

impl Eq for Tensor {}

impl Tensor {
    /// A tensor of `data`, which must hold as many elements as the shape says.
    ///
    /// # Errors
    /// The message says what the size should be; the caller, who knows them, puts model and tensor in front.
    pub fn new(datatype: Datatype, shape: Shape, data: Bytes) -> Result<Self> {
        let Some(expected) = shape.bytes(datatype)? else {
            let marks = bytes_elements::check(&shape, &data)?;
            return Ok(Tensor { datatype, shape, data, marks });
        };
        if expected != data.len() {
            return Err(Error::invalid(format!(
                "shape {shape} of {datatype} takes {expected} bytes, got {} bytes",
                data.len()
            )));
        }
        if datatype == Datatype::Bool
            && let Some(byte) = data.iter().find(|byte| **byte > 1)
        {
            return Err(Error::invalid(format!("a BOOL element is the byte 0 or 1, got {byte}")));
        }
        Ok(Tensor { datatype, shape, data: alignment::aligned(data), marks: Marks::default() })
    }

    /// Type of the elements.
    pub fn datatype(&self) -> Datatype {
        self.datatype
    }

    /// Extent of each axis.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The elements.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The elements, without the rest.
    pub fn into_data(self) -> Bytes {
        self.data
    }
}
