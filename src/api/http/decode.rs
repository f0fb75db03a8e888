//! Bodies into the server's words: JSON, and the binary tensors behind it.

use axum::http::HeaderMap;
use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, value::RawValue};
use std::{fmt::Display, time::Instant};

use super::{JSON_LENGTH, json};
use crate::{
    api::{
        infer::{datatype, input_error},
        parameters::{Parameter, RequestParameters, TensorParameters},
    },
    error::{Error, Result},
    tensor::{Inputs, NamedTensor, Request, Shape, Tensor},
};

/// A decoded request with what the answer's form depends on.
pub(super) struct Decoded {
    pub request: Request,
    pub id: String,
    pub binary: Binary,
}

/// Which outputs go out in binary.
pub(super) struct Binary {
    /// Those named here as they say.
    pub outputs: Vec<(String, Option<bool>)>,
    /// The others.
    pub default: bool,
}

impl Binary {
    pub(super) fn is_binary(&self, output: &str) -> bool {
        let named = self.outputs.iter().find(|(name, _)| name == output);
        named.and_then(|(_, binary)| *binary).unwrap_or(self.default)
    }
}

type Parameters = serde_json::Map<String, Value>;

#[derive(Deserialize)]
struct InferRequest<'a> {
    #[serde(default, deserialize_with = "or_null")]
    id: String,
    #[serde(default, deserialize_with = "or_null")]
    parameters: Parameters,
    #[serde(borrow)]
    inputs: Vec<Input<'a>>,
    #[serde(default, deserialize_with = "or_null")]
    outputs: Vec<RequestedOutput>,
}

#[derive(Deserialize)]
struct Input<'a> {
    name: String,
    shape: Vec<i64>,
    datatype: String,
    #[serde(default, deserialize_with = "or_null")]
    parameters: Parameters,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RequestedOutput {
    name: String,
    #[serde(default, deserialize_with = "or_null")]
    parameters: Parameters,
}

/// What is optional may also be null: so do serializers write what is not there.
fn or_null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// An inference request that came at `now`.
pub(super) fn request(
    model: String,
    version: Option<u64>,
    headers: &HeaderMap,
    mut body: Bytes,
    now: Instant,
) -> Result<Decoded> {
    let json_length = json_length(&model, headers, body.len())?;
    if json_length == Some(0) {
        // A raw binary request: the body is the only input, and the answer is binary.
        let request = Request { model, version, inputs: Inputs::Raw(body), outputs: Vec::new(), deadline: None };
        return Ok(Decoded { request, id: String::new(), binary: Binary { outputs: Vec::new(), default: true } });
    }
    let json = body.split_to(json_length.unwrap_or(body.len()));
    let invalid = |why: &dyn Display| {
        Error::invalid(format!("the request for model '{model}' is not a valid JSON request: {why}"))
    };
    let mut deserializer = serde_json::Deserializer::from_slice(&json);
    let parsed = InferRequest::deserialize(&mut deserializer).map_err(|error| invalid(&error))?;
    let behind = "there is more behind it; Inference-Header-Content-Length tells where binary data begins";
    deserializer.end().map_err(|_| invalid(&behind))?;
    let parameters = RequestParameters::read(&model, self::parameters(parsed.parameters), now)?;
    let mut inputs = Vec::with_capacity(parsed.inputs.len());
    for input in parsed.inputs {
        inputs.push(self::input(&model, input, &mut body)?);
    }
    if !body.is_empty() {
        let left = body.len();
        return Err(Error::invalid(format!("unexpected additional input data for model '{model}': {left} bytes")));
    }
    let mut outputs = Vec::with_capacity(parsed.outputs.len());
    for output in parsed.outputs {
        let what = format!("output '{}' of model '{model}'", output.name);
        let read = TensorParameters::read(&what, self::parameters(output.parameters))?;
        outputs.push((output.name, read.binary_data));
    }
    let wanted = outputs.iter().map(|(name, _)| name.clone()).collect();
    let inputs = Inputs::Named(inputs);
    let request = Request { model, version, inputs, outputs: wanted, deadline: parameters.deadline };
    Ok(Decoded { request, id: parsed.id, binary: Binary { outputs, default: parameters.binary_data_output } })
}

/// Length of the JSON where the header tells it.
fn json_length(model: &str, headers: &HeaderMap, body: usize) -> Result<Option<usize>> {
    let Some(value) = headers.get(JSON_LENGTH) else {
        return Ok(None);
    };
    let length = value.to_str().ok().and_then(|text| text.parse().ok()).filter(|&length: &usize| length <= body);
    length.map(Some).ok_or_else(|| {
        Error::invalid(format!(
            "Inference-Header-Content-Length of the request for model '{model}' must be between 0 and the body's {body} bytes, got {value:?}"
        ))
    })
}

/// One input: its elements stand in the JSON, or are the next bytes behind it.
fn input(model: &str, input: Input<'_>, binary: &mut Bytes) -> Result<NamedTensor> {
    let error = |what: String| input_error(model, &input.name, what);
    let datatype = datatype(model, &input.name, &input.datatype)?;
    let shape = Shape::from_wire(&input.shape).map_err(|why| error(why.to_string()))?;
    let what = format!("input '{}' of model '{model}'", input.name);
    let read = TensorParameters::read(&what, parameters(input.parameters))?;
    let data = match (input.data, read.binary_data_size) {
        (Some(_), Some(_)) => {
            return Err(error("give either data or the parameter binary_data_size, not both".into()));
        }
        (None, None) => {
            return Err(error("there is no data: give data, or the parameter binary_data_size".into()));
        }
        (None, Some(size)) if size <= binary.len() => binary.split_to(size),
        (None, Some(size)) => {
            return Err(error(format!(
                "expected {size} bytes of binary data behind the JSON, got {} bytes; is Inference-Header-Content-Length set?",
                binary.len()
            )));
        }
        (Some(data), None) => {
            let expected = shape.elements().map_err(|why| error(why.to_string()))?;
            Bytes::from(json::read(datatype, data.get(), expected).map_err(error)?)
        }
    };
    let tensor = Tensor::new(datatype, shape, data).map_err(|why| error(why.to_string()))?;
    Ok(NamedTensor { name: input.name, tensor })
}

/// Parameters, as every protocol has them. What is no scalar is not for this server.
fn parameters(parameters: Parameters) -> impl Iterator<Item = (String, Parameter)> {
    parameters.into_iter().filter_map(|(name, value)| {
        let value = match value {
            Value::Bool(value) => Parameter::Bool(value),
            Value::String(value) => Parameter::String(value),
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => Parameter::Int(value),
                (None, Some(value)) => Parameter::Uint(value),
                (None, None) => Parameter::Double(number.as_f64()?),
            },
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        Some((name, value))
    })
}
