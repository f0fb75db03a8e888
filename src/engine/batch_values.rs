//! Tensors of a batch as ONNX Runtime's values: the extents of stacked inputs, and outputs that are taken over.

use bytes::Bytes;
use std::ops::Range;

use super::{strings, value::Value};
use crate::tensor::{Datatype, Shape, Tensor, TensorSpec};

/// The datatype of an input's tensors, and the extents of the one that they are stacked to.
pub(super) fn stacked_extents<'p>(
    mut parts: impl ExactSizeIterator<Item = &'p Tensor> + Clone,
) -> ort::Result<(Datatype, Vec<i64>)> {
    let mut rest = parts.clone();
    let first = parts.next().ok_or_else(|| ort::Error::new("there is no request in the batch"))?;
    let mut extents: Vec<i64> = first.shape().to_wire().collect();
    if let (Some(rows), true) = (extents.first_mut(), rest.len() > 1) {
        *rows = rest.by_ref().map(|part| part.shape().rows() as i64).sum();
    }
    Ok((first.datatype(), extents))
}

/// Takes over an output. Its memory stays ONNX Runtime's until the last slice of it is dropped; nothing is copied, unless it
/// lies in an input (a graph may pass an input through), which will be overwritten.
#[allow(unsafe_code, reason = "reads the output's memory, whose type is known only at run time")]
pub(super) fn output_tensor(value: Value, spec: &TensorSpec, inputs: &[Range<usize>]) -> Result<Tensor, String> {
    let wrong = |what: String| format!("output '{}' {what}", spec.name);
    let (datatype, extents) = value.describe().map_err(|error| wrong(format!("is not a tensor: {error}")))?;
    if datatype != Some(spec.datatype) {
        let came = datatype.map_or("elements that the protocol has no datatype for", Datatype::name);
        return Err(wrong(format!("came as {came}, expected {}", spec.datatype)));
    }
    let shape = extents.iter().map(|&extent| usize::try_from(extent)).collect::<Result<_, _>>();
    let shape = Shape::new(shape.map_err(|_| wrong(format!("came with the shape {extents:?}")))?);
    let elements = shape.elements().map_err(|error| wrong(error.to_string()))?;
    let length = shape.bytes(spec.datatype).map_err(|error| wrong(error.to_string()))?;
    let data = match length {
        _ if elements == 0 => Bytes::new(),
        None => strings::output_data(&value, elements).map_err(wrong)?,
        Some(length) => {
            let start = value.data().map_err(|error| wrong(error.to_string()))?;
            let memory = OutputMemory { start, length, _value: value };
            if inputs.iter().any(|input| input.contains(&start.addr())) {
                Bytes::copy_from_slice(memory.as_ref())
            } else {
                Bytes::from_owner(memory)
            }
        }
    };
    Tensor::new(spec.datatype, shape, data).map_err(|error| wrong(error.to_string()))
}

/// The memory of an output value, which it keeps alive.
struct OutputMemory {
    start: *const u8,
    length: usize,
    _value: Value,
}

// SAFETY: the pointer is into the value, which is Send itself and is never written to.
#[allow(unsafe_code, reason = "a raw pointer takes the automatic implementations away")]
unsafe impl Send for OutputMemory {}

impl AsRef<[u8]> for OutputMemory {
    #[allow(unsafe_code, reason = "reads the output's memory")]
    fn as_ref(&self) -> &[u8] {
        // SAFETY: ONNX Runtime says that the value has `length` bytes (elements of its shape) at `start`; they live as long as the
        // value and nothing writes to them. They are initialised: kernels write their outputs, and where one may leave some
        // unwritten (`model_file/unwritten.rs`, runs with an empty input) the allocator has zeroed them.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}
