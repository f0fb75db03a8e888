//! ONNX Runtime's element types and the protocol's.

use ort::{
    memory::MemoryInfo,
    session::SessionInputValue,
    value::{Shape, TensorElementType, TensorRefMut},
};
use std::ffi::c_void;

use crate::tensor::Datatype;

/// The protocol's name of an element type, if it has one.
pub(super) fn datatype(element: TensorElementType) -> Option<Datatype> {
    match element {
        TensorElementType::Bool => Some(Datatype::Bool),
        TensorElementType::Uint8 => Some(Datatype::Uint8),
        TensorElementType::Uint16 => Some(Datatype::Uint16),
        TensorElementType::Uint32 => Some(Datatype::Uint32),
        TensorElementType::Uint64 => Some(Datatype::Uint64),
        TensorElementType::Int8 => Some(Datatype::Int8),
        TensorElementType::Int16 => Some(Datatype::Int16),
        TensorElementType::Int32 => Some(Datatype::Int32),
        TensorElementType::Int64 => Some(Datatype::Int64),
        TensorElementType::Float32 => Some(Datatype::Fp32),
        TensorElementType::Float64 => Some(Datatype::Fp64),
        TensorElementType::Float16 => Some(Datatype::Fp16),
        TensorElementType::Bfloat16 => Some(Datatype::Bf16),
        TensorElementType::String => Some(Datatype::Bytes),
        _ => None,
    }
}

/// An input of a run over memory that the caller keeps: nothing is copied. `None` for BYTES, which ONNX Runtime keeps itself.
///
/// # Safety
/// `data` points to as many bytes as `datatype` and `shape` need, aligned for the datatype, and they live and don't change
/// until the value is dropped.
#[allow(unsafe_code, reason = "the memory's lifetime is the caller's promise")]
pub(super) unsafe fn input_value<'v>(
    datatype: Datatype,
    memory: MemoryInfo,
    data: *mut c_void,
    shape: Shape,
) -> Option<ort::Result<SessionInputValue<'v>>> {
    macro_rules! value {
        ($element:ty) => {
            // SAFETY: promised by the caller.
            Some(unsafe { TensorRefMut::<'v, $element>::from_raw(memory, data, shape) }.map(SessionInputValue::from))
        };
    }
    match datatype {
        Datatype::Bool => value!(bool),
        Datatype::Uint8 => value!(u8),
        Datatype::Uint16 => value!(u16),
        Datatype::Uint32 => value!(u32),
        Datatype::Uint64 => value!(u64),
        Datatype::Int8 => value!(i8),
        Datatype::Int16 => value!(i16),
        Datatype::Int32 => value!(i32),
        Datatype::Int64 => value!(i64),
        Datatype::Fp32 => value!(f32),
        Datatype::Fp64 => value!(f64),
        Datatype::Fp16 => value!(half::f16),
        Datatype::Bf16 => value!(half::bf16),
        Datatype::Bytes => None,
    }
}
