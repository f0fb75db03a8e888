//! Messages into requests.

use bytes::Bytes;
use std::{collections::BTreeMap, mem, time::Instant};

use crate::{
    api::{
        dialect::{
            input::{datatype, input_error},
            parameters::{Parameter, RequestParameters, TensorParameters},
        },
        proto::{
            InferParameter, InferTensorContents, ModelInferRequest, infer_parameter::ParameterChoice,
            model_infer_request::InferInputTensor,
        },
    },
    error::{Error, Result},
    tensor::{Datatype, Inputs, NamedTensor, Request, Shape, Tensor, push_bytes_element},
    traffic::Selector,
};

/// An inference request that came at `now`, or the error with the model's name.
pub(super) fn request(mut message: ModelInferRequest, now: Instant) -> Result<Request, (Error, String)> {
    let model = mem::take(&mut message.model_name);
    match nameless(&model, message, now) {
        Ok(request) => Ok(Request { model, ..request }),
        Err(error) => Err((error, model)),
    }
}

/// The request in a message to `model`, without the model's name.
fn nameless(model: &str, message: ModelInferRequest, now: Instant) -> Result<Request> {
    let selector = Selector::parse(model, &message.model_version)?;
    let RequestParameters { deadline, priority, routing_key, .. } =
        RequestParameters::read(model, parameters(message.parameters), now)?;
    let inputs = Inputs::Named(inputs(model, message.inputs, message.raw_input_contents)?);
    let mut outputs = Vec::with_capacity(message.outputs.len());
    for output in message.outputs {
        TensorParameters::read(
            &format!("output '{}' of model '{model}'", output.name),
            self::parameters(output.parameters),
        )?;
        outputs.push(output.name);
    }
    Ok(Request { model: String::new(), selector, routing_key, inputs, outputs, priority, deadline })
}

/// The inputs: either all of them have typed contents, or none has and the raw contents hold their bytes in order.
fn inputs(model: &str, inputs: Vec<InferInputTensor>, raw: Vec<Bytes>) -> Result<Vec<NamedTensor>> {
    // Before the entries are counted: an input in shared memory has none, and that is not its error.
    for input in inputs.iter().filter(|input| !input.parameters.is_empty()) {
        let what = format!("input '{}' of model '{model}'", input.name);
        TensorParameters::read(&what, parameters(input.parameters.clone()))?;
    }
    let is_raw = !raw.is_empty();
    // Before the entries are counted: who mixes the two forms learns just that. The words are Triton's.
    if let Some(input) = inputs.iter().find(|input| is_raw && input.contents.is_some()) {
        return Err(Error::invalid(format!(
            "contents field must not be specified when using raw_input_contents for '{}' for model '{model}'",
            input.name
        )));
    }
    if is_raw && raw.len() != inputs.len() {
        return Err(Error::invalid(format!(
            "model '{model}': raw_input_contents must have one entry for each of the {} inputs, got {}",
            inputs.len(),
            raw.len()
        )));
    }
    let mut raw = raw.into_iter();
    inputs.into_iter().map(|input| self::input(model, input, raw.next())).collect()
}

fn input(model: &str, input: InferInputTensor, raw: Option<Bytes>) -> Result<NamedTensor> {
    let error = |what: String| input_error(model, &input.name, what);
    let datatype = datatype(model, &input.name, &input.datatype)?;
    let shape = Shape::from_wire(&input.shape).map_err(|why| error(why.to_string()))?;
    let data = match (raw, &input.contents) {
        (Some(raw), _) => raw,
        (None, Some(contents)) => typed(datatype, contents).map_err(error)?,
        // Protobuf leaves out a message without fields: the contents of an empty tensor.
        (None, None) if shape.elements() == Ok(0) => Bytes::new(),
        (None, None) => {
            return Err(error("there is no data: give contents, or raw_input_contents for all inputs".into()));
        }
    };
    let tensor = Tensor::new(datatype, shape, data).map_err(|why| error(why.to_string()))?;
    Ok(NamedTensor { name: input.name, tensor })
}

/// The bytes of typed contents, which stand in the one field that fits the datatype.
fn typed(datatype: Datatype, contents: &InferTensorContents) -> Result<Bytes, String> {
    let InferTensorContents {
        bool_contents,
        int_contents,
        int64_contents,
        uint_contents,
        uint64_contents,
        fp32_contents,
        fp64_contents,
        bytes_contents,
    } = contents;
    let fields = [
        ("bool_contents", bool_contents.len()),
        ("int_contents", int_contents.len()),
        ("int64_contents", int64_contents.len()),
        ("uint_contents", uint_contents.len()),
        ("uint64_contents", uint64_contents.len()),
        ("fp32_contents", fp32_contents.len()),
        ("fp64_contents", fp64_contents.len()),
        ("bytes_contents", bytes_contents.len()),
    ];
    let (field, data) = match datatype {
        Datatype::Bool => ("bool_contents", bool_contents.iter().map(|&value| u8::from(value)).collect()),
        Datatype::Int8 => ("int_contents", narrow(datatype, int_contents, i8::to_le_bytes)?),
        Datatype::Int16 => ("int_contents", narrow(datatype, int_contents, i16::to_le_bytes)?),
        Datatype::Int32 => ("int_contents", int_contents.iter().flat_map(|value| value.to_le_bytes()).collect()),
        Datatype::Int64 => ("int64_contents", int64_contents.iter().flat_map(|value| value.to_le_bytes()).collect()),
        Datatype::Uint8 => ("uint_contents", narrow(datatype, uint_contents, u8::to_le_bytes)?),
        Datatype::Uint16 => ("uint_contents", narrow(datatype, uint_contents, u16::to_le_bytes)?),
        Datatype::Uint32 => ("uint_contents", uint_contents.iter().flat_map(|value| value.to_le_bytes()).collect()),
        Datatype::Uint64 => ("uint64_contents", uint64_contents.iter().flat_map(|value| value.to_le_bytes()).collect()),
        Datatype::Fp32 => ("fp32_contents", fp32_contents.iter().flat_map(|value| value.to_le_bytes()).collect()),
        Datatype::Fp64 => ("fp64_contents", fp64_contents.iter().flat_map(|value| value.to_le_bytes()).collect()),
        Datatype::Bytes => ("bytes_contents", elements_of_bytes(bytes_contents)?),
        Datatype::Fp16 | Datatype::Bf16 => {
            return Err(format!("there are no contents for {datatype}: give raw_input_contents for all inputs"));
        }
    };
    if let Some((other, _)) = fields.iter().find(|(name, length)| *name != field && *length > 0) {
        return Err(format!("{datatype} elements must stand in {field}, got {other}"));
    }
    Ok(Bytes::from(data))
}

fn elements_of_bytes(elements: &[Bytes]) -> Result<Vec<u8>, String> {
    let prefixes = elements.len() * size_of::<u32>();
    let mut data = Vec::with_capacity(prefixes + elements.iter().map(Bytes::len).sum::<usize>());
    elements.iter().try_for_each(|element| push_bytes_element(&mut data, element))?;
    Ok(data)
}

/// The bytes of elements that the protocol carries in a wider type.
fn narrow<W, T, const N: usize>(datatype: Datatype, values: &[W], bytes: fn(T) -> [u8; N]) -> Result<Vec<u8>, String>
where
    W: Copy + std::fmt::Display,
    T: TryFrom<W>,
{
    let mut data = Vec::with_capacity(values.len() * N);
    for (index, &value) in values.iter().enumerate() {
        let value =
            T::try_from(value).map_err(|_| format!("element {index} is {value}, which {datatype} can't hold"))?;
        data.extend(bytes(value));
    }
    Ok(data)
}

/// Parameters, as every protocol has them. One without a value is none.
fn parameters(parameters: BTreeMap<String, InferParameter>) -> impl Iterator<Item = (String, Parameter)> {
    parameters.into_iter().filter_map(|(name, parameter)| {
        let value = match parameter.parameter_choice? {
            ParameterChoice::BoolParam(value) => Parameter::Bool(value),
            ParameterChoice::Int64Param(value) => Parameter::Int(value),
            ParameterChoice::StringParam(value) => Parameter::String(value),
            ParameterChoice::DoubleParam(value) => Parameter::Double(value),
            ParameterChoice::Uint64Param(value) => Parameter::Uint(value),
        };
        Some((name, value))
    })
}
