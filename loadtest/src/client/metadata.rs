//! A server's metadata of a model.

use bytes::Bytes;
use onnxd::{
    api::proto::{ModelMetadataResponse, model_metadata_response::TensorMetadata},
    tensor::Datatype,
};
use serde_json::Value;

use crate::{tally::Failure, tensors::Input};

/// Metadata that requests are made from.
#[derive(Debug)]
pub(crate) struct Metadata {
    /// Inputs of the model.
    pub inputs: Vec<Input>,
    /// The answer as it came.
    pub body: Bytes,
}

impl Metadata {
    pub(super) fn from_grpc(answer: ModelMetadataResponse, body: Bytes) -> Result<Self, Failure> {
        let input = |input: TensorMetadata| named(Some(&input.name), Some(&input.datatype), Some(input.shape));
        let inputs = answer.inputs.into_iter().map(input).collect::<Result<_, _>>()?;
        Ok(Metadata { inputs, body })
    }

    pub(super) fn from_http(body: Bytes) -> Result<Self, Failure> {
        let answer: Value = serde_json::from_slice(&body).map_err(|error| bad(&error.to_string()))?;
        let input = |input: &Value| {
            let shape = input["shape"].as_array().and_then(|shape| shape.iter().map(Value::as_i64).collect());
            named(input["name"].as_str(), input["datatype"].as_str(), shape)
        };
        let inputs = answer["inputs"].as_array().ok_or_else(|| bad("it has no inputs"))?;
        let inputs = inputs.iter().map(input).collect::<Result<_, _>>()?;
        Ok(Metadata { inputs, body })
    }
}

fn named(name: Option<&str>, datatype: Option<&str>, shape: Option<Vec<i64>>) -> Result<Input, Failure> {
    let name = name.ok_or_else(|| bad("an input has no name"))?;
    let datatype = datatype.and_then(Datatype::from_name);
    let datatype = datatype.ok_or_else(|| bad(&format!("input '{name}' has no datatype that is known")))?;
    let shape = shape.ok_or_else(|| bad(&format!("input '{name}' has no shape")))?;
    Ok(Input { name: name.to_owned(), datatype, shape })
}

fn bad(why: &str) -> Failure {
    Failure::answered("bad metadata", format!("the model's metadata: {why}"))
}
