//! Strings of ONNX Runtime and BYTES tensors. Any bytes go in and out, NUL and what is no UTF-8 included, which the safe
//! interface of `ort` refuses: so this speaks to ONNX Runtime's C interface.

use bytes::Bytes;
use ort::{
    AsPointer,
    memory::Allocator,
    session::SessionInputValue,
    value::{DynTensor, Shape, TensorElementType},
};
use std::ptr;

use crate::tensor::{BytesElements, push_bytes_element};

/// An input of a run that holds the elements of these BYTES tensors, one behind the other. There are as many as the shape says.
#[allow(unsafe_code, reason = "ONNX Runtime's C interface")]
pub(super) fn input_value<'p>(
    shape: Shape,
    parts: impl Iterator<Item = &'p Bytes>,
) -> ort::Result<SessionInputValue<'static>> {
    let mut tensor = DynTensor::new(&Allocator::default(), TensorElementType::String, shape)?;
    for (index, element) in parts.flat_map(|part| BytesElements::new(part)).enumerate() {
        let mut buffer = ptr::null_mut();
        // SAFETY: the tensor is a live tensor of strings; an index beyond it is an error, not a write. The buffer that comes
        // back has the length asked for, is the tensor's own, and is written before anything else touches the tensor.
        unsafe {
            let resize = ort::api().GetResizedStringTensorElementBuffer;
            ort::Error::result_from_status(resize(tensor.ptr_mut(), index, element.len(), &raw mut buffer))?;
            ptr::copy_nonoverlapping(element.as_ptr(), buffer.cast(), element.len());
        }
    }
    Ok(tensor.into())
}

/// The elements of a tensor of `count` strings, as data of a BYTES tensor.
///
/// # Errors
/// For people: ONNX Runtime's words, or an element is too long.
#[allow(unsafe_code, reason = "ONNX Runtime's C interface")]
pub(super) fn output_data(tensor: &DynTensor, count: usize) -> Result<Bytes, String> {
    let mut length = 0;
    // SAFETY: the tensor is a live tensor of strings.
    let status = unsafe { (ort::api().GetStringTensorDataLength)(tensor.ptr(), &raw mut length) };
    checked(status)?;
    let mut text = vec![0u8; length];
    // One more than there are elements: where the last one ends.
    let mut offsets = vec![0usize; count + 1];
    // SAFETY: both buffers live and have the lengths that are told.
    let status = unsafe {
        let content = ort::api().GetStringTensorContent;
        content(tensor.ptr(), text.as_mut_ptr().cast(), length, offsets.as_mut_ptr(), count)
    };
    checked(status)?;
    offsets[count] = length;
    let mut data = Vec::with_capacity(length + count * size_of::<u32>());
    for ends in offsets.windows(2) {
        push_bytes_element(&mut data, text.get(ends[0]..ends[1]).unwrap_or_default())?;
    }
    Ok(data.into())
}

#[allow(unsafe_code, reason = "takes over a status of ONNX Runtime's C interface")]
fn checked(status: ort::sys::OrtStatusPtr) -> Result<(), String> {
    // SAFETY: the status comes from ONNX Runtime and is handed over once.
    unsafe { ort::Error::result_from_status(status) }.map_err(|error| error.to_string())
}
