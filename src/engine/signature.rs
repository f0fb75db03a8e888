//! Signature of a session: its inputs and outputs, in the server's types.

use ort::{
    AsPointer,
    session::Session,
    value::{Outlet, ValueType},
};
use std::{collections::BTreeMap, ptr};

use super::element::datatype;
use crate::tensor::{Dimension, Signature, TensorSpec};

/// The signature of a session, with the names of classes that its outputs have.
///
/// # Errors
/// For people: which input or output can't be served, why, and what to do.
pub(super) fn signature(session: &Session, mut labels: BTreeMap<String, Vec<String>>) -> Result<Signature, String> {
    let api = ort::api();
    let inputs = specs("input", session.inputs(), |index| has_shape(session, index, api.SessionGetInputTypeInfo))?;
    let mut outputs =
        specs("output", session.outputs(), |index| has_shape(session, index, api.SessionGetOutputTypeInfo))?;
    // ONNX Runtime loads it, and then fails every run.
    if outputs.is_empty() {
        return Err("the model has no outputs, expected at least one: export it with what it is to answer".into());
    }
    for output in &mut outputs {
        output.labels = labels.remove(&*output.name).unwrap_or_default();
    }
    let optional = session.overridable_initializers();
    let optional_inputs = optional.iter().map(|input| {
        spec(input.name(), input.dtype(), true).map_err(|why| format!("optional input '{}' {why}", input.name()))
    });
    Ok(Signature::new(inputs, optional_inputs.collect::<Result<_, _>>()?, outputs))
}

fn specs(kind: &str, outlets: &[Outlet], has_shape: impl Fn(usize) -> bool) -> Result<Vec<TensorSpec>, String> {
    let spec = |(index, outlet): (usize, &Outlet)| {
        let spec = spec(outlet.name(), outlet.dtype(), has_shape(index));
        spec.map_err(|why| format!("{kind} '{}' {why}", outlet.name()))
    };
    outlets.iter().enumerate().map(spec).collect()
}

/// The declaration of an input or output, or the reason that it can't be served.
fn spec(name: &str, dtype: &ValueType, has_shape: bool) -> Result<TensorSpec, String> {
    let ValueType::Tensor { ty, shape, dimension_symbols } = dtype else {
        return Err(not_a_tensor(dtype));
    };
    let Some(datatype) = datatype(*ty) else {
        return Err(format!(
            "has elements of type {ty}, which the protocol has no datatype for: have the model cast it, to FP32 for one"
        ));
    };
    let dimension = |(&extent, symbol): (&i64, &String)| match usize::try_from(extent) {
        Ok(extent) => Dimension::Fixed(extent),
        Err(_) => Dimension::Symbolic((!symbol.is_empty()).then(|| symbol.as_str().into())),
    };
    let shape = has_shape.then(|| shape.iter().zip(dimension_symbols.iter()).map(dimension).collect());
    Ok(TensorSpec { name: name.into(), datatype, shape, labels: Vec::new() })
}

fn not_a_tensor(dtype: &ValueType) -> String {
    let advice = match dtype {
        ValueType::Map { .. } => MAP_ADVICE,
        ValueType::Sequence(element) if matches!(**element, ValueType::Map { .. }) => MAP_ADVICE,
        ValueType::Sequence(_) => {
            "export the model with a tensor in its place, such as the concatenation of the sequence (ConcatFromSequence)"
        }
        _ => "export the model with a plain tensor in its place",
    };
    format!("is {dtype}: the protocol carries only tensors; {advice}")
}

const MAP_ADVICE: &str = "export the model with the scores as a tensor: with skl2onnx, \
    to_onnx(model, X, options={\"zipmap\": False}); a ZipMap that ends a model's main graph is taken out by itself";

type TypeInfo = unsafe extern "system" fn(
    *const ort::sys::OrtSession,
    usize,
    *mut *mut ort::sys::OrtTypeInfo,
) -> ort::sys::OrtStatusPtr;

/// True if the model says how many axes its input or output `index` has. `ort` shows one that does not as a scalar.
#[allow(unsafe_code, reason = "ONNX Runtime's C interface")]
fn has_shape(session: &Session, index: usize, type_info: TypeInfo) -> bool {
    let api = ort::api();
    let mut info = ptr::null_mut();
    // SAFETY: the session lives, the index is one of its inputs or outputs; what comes back is the caller's to release.
    let status = unsafe { ort::Error::result_from_status(type_info(session.ptr(), index, &raw mut info)) };
    if status.is_err() || info.is_null() {
        return true;
    }
    let mut tensor = ptr::null();
    // SAFETY: the type information lives until it is released at the end; the tensor's is a part of it.
    unsafe {
        let cast = ort::Error::result_from_status((api.CastTypeInfoToTensorInfo)(info, &raw mut tensor));
        let has_shape = cast.is_err() || tensor.is_null() || (api.TensorTypeAndShape_HasShape)(tensor);
        (api.ReleaseTypeInfo)(info);
        has_shape
    }
}
