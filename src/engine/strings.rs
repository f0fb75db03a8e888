//! Strings of ONNX Runtime and BYTES tensors. Any bytes go in and out, NUL and what is no UTF-8 included, which the safe
//! interface of `ort` refuses: so this speaks to ONNX Runtime's C interface.

use bytes::Bytes;
use ort::{AsPointer, memory::Allocator};
use std::ptr;

use super::{element::element_type, status::checked, value::Value};
use crate::tensor::{BytesElements, Datatype, push_bytes_element};

/// An input of a run that holds the elements of these BYTES tensors, one behind the other. There are as many as the extents
/// say.
#[allow(unsafe_code, reason = "ONNX Runtime's C interface")]
pub(super) fn input_value<'p>(extents: &[i64], parts: impl Iterator<Item = &'p Bytes>) -> ort::Result<Value> {
    let api = ort::api();
    let allocator = Allocator::default();
    let (rank, element) = (extents.len(), element_type(Datatype::Bytes).into());
    let mut tensor = ptr::null_mut();
    // SAFETY: the allocator lives for as long as the process; what comes back is the caller's.
    let tensor = unsafe {
        let create = api.CreateTensorAsOrtValue;
        checked(create(allocator.ptr().cast_mut(), extents.as_ptr(), rank, element, &raw mut tensor))?;
        Value::take(tensor).ok_or_else(|| ort::Error::new("a tensor came back as nothing"))?
    };
    for (index, element) in parts.flat_map(|part| BytesElements::new(part)).enumerate() {
        let mut buffer = ptr::null_mut();
        // SAFETY: the tensor is a live tensor of strings; an index beyond it is an error, not a write. The buffer that comes
        // back has the length asked for, is the tensor's own, and is written before anything else touches the tensor.
        unsafe {
            let resize = api.GetResizedStringTensorElementBuffer;
            checked(resize(tensor.pointer(), index, element.len(), &raw mut buffer))?;
            ptr::copy_nonoverlapping(element.as_ptr(), buffer.cast(), element.len());
        }
    }
    Ok(tensor)
}

/// The elements of a tensor of `count` strings, as data of a BYTES tensor.
///
/// # Errors
/// For people: ONNX Runtime's words, or an element is too long.
#[allow(unsafe_code, reason = "ONNX Runtime's C interface")]
pub(super) fn output_data(tensor: &Value, count: usize) -> Result<Bytes, String> {
    let returned = |status| checked(status).map_err(|error| error.to_string());
    let mut length = 0;
    // SAFETY: the tensor is a live tensor of strings.
    returned(unsafe { (ort::api().GetStringTensorDataLength)(tensor.pointer(), &raw mut length) })?;
    let mut text = vec![0u8; length];
    // One more than there are elements: where the last one ends.
    let mut offsets = vec![0usize; count + 1];
    // SAFETY: both buffers live and have the lengths that are passed.
    returned(unsafe {
        let content = ort::api().GetStringTensorContent;
        content(tensor.pointer(), text.as_mut_ptr().cast(), length, offsets.as_mut_ptr(), count)
    })?;
    offsets[count] = length;
    let mut data = Vec::with_capacity(length + count * size_of::<u32>());
    for ends in offsets.windows(2) {
        push_bytes_element(&mut data, text.get(ends[0]..ends[1]).unwrap_or_default())?;
    }
    Ok(data.into())
}
