//! The server's words into bodies.

use axum::http::{HeaderValue, Response, header::CONTENT_TYPE};

use super::{JSON_LENGTH, decode::Binary};
use crate::{api::tell_version, json::write_elements, router::Answer, tensor::OutputTensor};

/// An answer.
pub(super) fn response(answer: &Answer, id: &str, binary: &Binary) -> Response<Vec<u8>> {
    let (body, json_length) = body(answer, id, binary);
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    tell_version(headers, &answer.version, answer.reason);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(json_length)));
    if let Some(json_length) = json_length {
        headers.insert(JSON_LENGTH, HeaderValue::from(json_length));
    }
    response
}

/// What a body is: JSON, or what binary tensors stand in.
pub(super) fn content_type(json_length: Option<usize>) -> &'static str {
    if json_length.is_none() { "application/json" } else { "application/octet-stream" }
}

/// The body of an answer: JSON, with the outputs that were asked for in binary behind it; then the length of the JSON too.
pub(super) fn body(answer: &Answer, id: &str, binary: &Binary) -> (Vec<u8>, Option<usize>) {
    let mut body = Vec::with_capacity(256);
    body.push(b'{');
    if !id.is_empty() {
        body.extend_from_slice(b"\"id\":");
        string(&mut body, id);
        body.push(b',');
    }
    body.extend_from_slice(b"\"model_name\":");
    string(&mut body, &answer.version.model);
    body.extend_from_slice(b",\"model_version\":\"");
    body.extend_from_slice(&answer.version.number);
    body.extend_from_slice(b"\",\"outputs\":[");
    let mut behind = Vec::new();
    for (index, output) in answer.output.tensors.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        let is_binary = binary.is_binary(&output.name);
        tensor(&mut body, output, is_binary);
        if is_binary {
            behind.push(output.tensor.data());
        }
    }
    body.extend_from_slice(b"]}");
    let json_length = body.len();
    for data in &behind {
        body.extend_from_slice(data);
    }
    (body, (!behind.is_empty()).then_some(json_length))
}

fn tensor(body: &mut Vec<u8>, output: &OutputTensor, is_binary: bool) {
    body.extend_from_slice(b"{\"name\":");
    string(body, &output.name);
    let (datatype, shape) = (output.tensor.datatype(), output.tensor.shape());
    body.extend_from_slice(b",\"datatype\":\"");
    body.extend_from_slice(datatype.name().as_bytes());
    body.extend_from_slice(b"\",\"shape\":[");
    for (axis, extent) in shape.extents().iter().enumerate() {
        if axis > 0 {
            body.push(b',');
        }
        number(body, *extent as u64);
    }
    body.extend_from_slice(b"],");
    if is_binary {
        body.extend_from_slice(b"\"parameters\":{\"binary_data_size\":");
        number(body, output.tensor.data().len() as u64);
        body.push(b'}');
    } else {
        body.extend_from_slice(b"\"data\":");
        write_elements(body, &output.tensor);
    }
    body.push(b'}');
}

pub(super) fn number(body: &mut Vec<u8>, number: u64) {
    body.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A JSON string.
fn string(body: &mut Vec<u8>, text: &str) {
    // Writing a string into memory can't fail.
    let _ = serde_json::to_writer(body, text);
}
