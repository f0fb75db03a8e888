//! Requests, encoded once, and their expected answers.

use bytes::{BufMut, Bytes};
use onnxd::{
    api::proto::{self, InferParameter, infer_parameter::ParameterChoice, model_infer_request::InferInputTensor},
    json::write_elements,
};
use serde_json::{Value, json};
use std::{sync::OnceLock, time::Duration};

use crate::{
    answer::Expected,
    target::{Protocol, Target},
    tensors::Named,
};

/// A request as it goes over the wire, again and again.
#[derive(Debug)]
pub(crate) struct Message {
    /// The body; over gRPC with the prefix of its message.
    pub body: Bytes,
    /// Length of the JSON where binary tensors stand behind it.
    pub json_length: Option<usize>,
    /// Rows in it: what the inputs have on axis 0.
    pub rows: u64,
    /// Expected answer, once that is known.
    pub expected: OnceLock<Expected>,
}

impl Message {
    /// A request of these inputs as a target takes it, with the deadline that it carries.
    pub(crate) fn new(target: &Target, inputs: &[Named], deadline: Option<Duration>) -> Self {
        let timeout = deadline.map(|deadline| i64::try_from(deadline.as_micros()).unwrap_or(i64::MAX));
        let (json_length, body) = match target.protocol {
            Protocol::Grpc => (None, grpc(target, inputs, timeout)),
            Protocol::HttpBinary => binary(inputs, timeout),
            Protocol::HttpJson => (None, text(inputs, timeout)),
        };
        let rows = inputs.first().map_or(1, |input| input.tensor.shape().rows()) as u64;
        Message { body: body.into(), json_length, rows, expected: OnceLock::new() }
    }
}

/// The parameter that carries a request's deadline, in microseconds (as Triton has it).
const TIMEOUT: &str = "timeout";

fn microseconds(timeout: i64) -> InferParameter {
    InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(timeout)) }
}

/// A message behind its prefix: whether it is packed, and its length (gRPC over HTTP/2, "Length-Prefixed-Message").
pub(crate) fn grpc_frame(message: &impl prost::Message) -> Vec<u8> {
    let length = message.encoded_len();
    let mut frame = Vec::with_capacity(5 + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode_raw(&mut frame);
    frame
}

fn grpc(target: &Target, inputs: &[Named], timeout: Option<i64>) -> Vec<u8> {
    let input = |input: &Named| InferInputTensor {
        name: input.name.clone(),
        datatype: input.tensor.datatype().name().into(),
        shape: input.tensor.shape().to_wire().collect(),
        ..Default::default()
    };
    grpc_frame(&proto::ModelInferRequest {
        model_name: target.model.clone(),
        model_version: target.version.clone().unwrap_or_default(),
        parameters: timeout.map(|timeout| (TIMEOUT.to_owned(), microseconds(timeout))).into_iter().collect(),
        inputs: inputs.iter().map(input).collect(),
        raw_input_contents: inputs.iter().map(|input| input.tensor.data().clone()).collect(),
        ..Default::default()
    })
}

fn binary(inputs: &[Named], timeout: Option<i64>) -> (Option<usize>, Vec<u8>) {
    let input = |input: &Named| {
        let mut object = described(input);
        object["parameters"] = json!({"binary_data_size": input.tensor.data().len()});
        object
    };
    let inputs_json: Vec<Value> = inputs.iter().map(input).collect();
    let mut request = json!({"inputs": inputs_json, "parameters": {"binary_data_output": true}});
    if let Some(timeout) = timeout {
        request["parameters"][TIMEOUT] = timeout.into();
    }
    let mut body = request.to_string().into_bytes();
    let json_length = body.len();
    inputs.iter().for_each(|input| body.extend_from_slice(input.tensor.data()));
    (Some(json_length), body)
}

fn text(inputs: &[Named], timeout: Option<i64>) -> Vec<u8> {
    let mut body = b"{".to_vec();
    if let Some(timeout) = timeout {
        body.extend_from_slice(format!("\"parameters\":{},", json!({TIMEOUT: timeout})).as_bytes());
    }
    body.extend_from_slice(b"\"inputs\":[");
    for (index, input) in inputs.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        let object = described(input).to_string();
        body.extend_from_slice(object.trim_end_matches('}').as_bytes());
        body.extend_from_slice(b",\"data\":");
        write_elements(&mut body, &input.tensor);
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    body
}

fn described(input: &Named) -> Value {
    let (datatype, shape) = (input.tensor.datatype().name(), input.tensor.shape().extents());
    json!({"name": input.name, "datatype": datatype, "shape": shape})
}
