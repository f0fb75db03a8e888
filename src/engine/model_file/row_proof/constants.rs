//! Elements of constants, where they are few.

use std::rc::Rc;

use super::{
    super::onnx::{AttributeProto, BOOL, DOUBLE, FLOAT, INT32, INT64, NodeProto, TensorProto},
    extent::Extent,
    rules::MAX_ELEMENTS,
    symbols::Symbols,
    value::Value,
};

/// A tensor that is part of the model.
pub(super) fn value(tensor: &TensorProto, symbols: &mut Symbols) -> Value {
    let shape = tensor.extents.iter().map(|extent| (*extent >= 0).then_some(Extent::Number(*extent))).collect();
    let data = elements(tensor, symbols).map(Rc::from);
    Value { data, ..Value::constant(tensor.element, shape) }
}

/// The elements of a tensor; `None` where they are many, lie in a file of their own, or are neither numbers nor truth values.
/// A fraction is an unknown element.
pub(super) fn elements(tensor: &TensorProto, symbols: &mut Symbols) -> Option<Vec<Extent>> {
    let count = tensor.extents.iter().try_fold(1_i64, |count, extent| count.checked_mul(*extent))?;
    let count = usize::try_from(count).ok().filter(|count| *count <= MAX_ELEMENTS)?;
    let raw = &tensor.raw_data[..];
    let mut whole = |number: f64| match number.fract() == 0.0 && number.abs() < 1e15 {
        true => Extent::Number(number as i64),
        false => symbols.element(false),
    };
    let elements: Vec<Extent> = match tensor.element {
        INT64 if raw.is_empty() => tensor.int64_data.iter().copied().map(Extent::Number).collect(),
        INT64 => raw.as_chunks().0.iter().map(|bytes| Extent::Number(i64::from_le_bytes(*bytes))).collect(),
        INT32 | BOOL if raw.is_empty() => {
            tensor.int32_data.iter().map(|number| Extent::Number((*number).into())).collect()
        }
        INT32 => raw.as_chunks().0.iter().map(|bytes| Extent::Number(i32::from_le_bytes(*bytes).into())).collect(),
        BOOL => raw.iter().map(|byte| Extent::Number((*byte).into())).collect(),
        FLOAT => raw.as_chunks().0.iter().map(|bytes| whole(f32::from_le_bytes(*bytes).into())).collect(),
        DOUBLE => raw.as_chunks().0.iter().map(|bytes| whole(f64::from_le_bytes(*bytes))).collect(),
        _ => return None,
    };
    (elements.len() == count && tensor.external_data.is_empty()).then_some(elements)
}

/// The value of a `Constant`.
pub(super) fn constant_node(node: &NodeProto, symbols: &mut Symbols) -> Value {
    let list = |element: i32, data: Vec<Extent>| Value {
        data: Some(data.as_slice().into()).filter(|_| data.len() <= MAX_ELEMENTS),
        ..Value::constant(element, Some([Extent::Number(data.len() as i64)].into()))
    };
    let only =
        |element: i32, data: Extent| Value { data: Some([data].into()), ..Value::constant(element, Some([].into())) };
    let Some(attribute) = node.attributes.first() else { return Value::constant(0, None) };
    let AttributeProto { name, integer, integers, float, .. } = attribute;
    match (name.as_str(), &attribute.tensor) {
        (_, Some(tensor)) => value(tensor, symbols),
        ("value_int", _) => only(INT64, Extent::Number(*integer)),
        ("value_ints", _) => list(INT64, integers.iter().copied().map(Extent::Number).collect()),
        ("value_float", _) if float.fract() == 0.0 && float.abs() < 1e15 => only(FLOAT, Extent::Number(*float as i64)),
        ("value_float" | "value_string", _) => {
            Value::constant(if name == "value_float" { FLOAT } else { 0 }, Some([].into()))
        }
        ("value_floats" | "value_strings", _) => Value::constant(0, Some([symbols.extent()].into())),
        _ => Value::constant(0, None),
    }
}
