//! ONNX Runtime's element types and the protocol's.

use ort::value::TensorElementType;

use crate::tensor::Datatype;

const PAIRS: [(TensorElementType, Datatype); Datatype::ALL.len()] = [
    (TensorElementType::Bool, Datatype::Bool),
    (TensorElementType::Uint8, Datatype::Uint8),
    (TensorElementType::Uint16, Datatype::Uint16),
    (TensorElementType::Uint32, Datatype::Uint32),
    (TensorElementType::Uint64, Datatype::Uint64),
    (TensorElementType::Int8, Datatype::Int8),
    (TensorElementType::Int16, Datatype::Int16),
    (TensorElementType::Int32, Datatype::Int32),
    (TensorElementType::Int64, Datatype::Int64),
    (TensorElementType::Float32, Datatype::Fp32),
    (TensorElementType::Float64, Datatype::Fp64),
    (TensorElementType::Float16, Datatype::Fp16),
    (TensorElementType::Bfloat16, Datatype::Bf16),
    (TensorElementType::String, Datatype::Bytes),
];

/// The protocol's name of an element type, if it has one.
pub(super) fn datatype(element: TensorElementType) -> Option<Datatype> {
    PAIRS.iter().find(|(other, _)| *other == element).map(|(_, datatype)| *datatype)
}

/// ONNX Runtime's name of a datatype.
pub(super) fn element_type(datatype: Datatype) -> TensorElementType {
    let found = PAIRS.iter().find(|(_, other)| *other == datatype);
    found.map_or(TensorElementType::Undefined, |(element, _)| *element)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn element_types_cover_every_datatype() {
        for known in Datatype::ALL {
            assert_eq!(datatype(element_type(known)), Some(known));
        }
    }
}
