//! Answers into bodies.

use super::decode::BinaryOutputs;
use crate::{
    api::{
        dialect::Encoded,
        transport::{Limits, Refusal, Share},
    },
    error::{Code, Error},
    json::{min_json_bytes, write_elements_while},
    router::Answer,
    tensor::OutputTensor,
};

/// Smaller answers are counted where they are sent.
const MIN_COUNTED_BYTES: usize = 64 << 10;

/// Bytes that are copied in the time that a byte of JSON takes.
const COPIED_PER_CHARACTER: usize = 32;

/// Bytes of JSON that take as long to write as the answer takes to encode.
pub(super) fn cost(answer: &Answer, binary: &BinaryOutputs) -> usize {
    let cost = |output: &OutputTensor| match binary.is_binary(&output.name) {
        true => output.tensor.data().len() / COPIED_PER_CHARACTER,
        false => min_json_bytes(&output.tensor).saturating_mul(2),
    };
    answer.output.tensors.iter().map(cost).fold(0, usize::saturating_add)
}

/// The body of an answer: JSON, with the outputs that were asked for in binary behind it. A large one takes its room in the byte
/// budget before it is written, as far as its length is known, and then piece by piece.
///
/// Given up between two pieces of JSON once nobody wants it: the error is for nobody then.
///
/// # Errors
/// There is no room for it, or it is not wanted any more.
pub(super) fn body(
    answer: &Answer,
    id: &str,
    binary: &BinaryOutputs,
    limits: &Limits,
    is_wanted: &dyn Fn() -> bool,
) -> Result<Encoded, Refusal> {
    let mut share = Share::new(&limits.budget);
    let (mut text_at_least, mut behind_bytes) = (0_usize, 0_usize);
    for output in &answer.output.tensors {
        match binary.is_binary(&output.name) {
            true => behind_bytes += output.tensor.data().len(),
            false => text_at_least = text_at_least.saturating_add(min_json_bytes(&output.tensor)),
        }
    }
    let at_least = text_at_least.saturating_add(behind_bytes);
    if at_least >= MIN_COUNTED_BYTES && !share.grow(at_least) {
        return Err(limits.answer_too_large(at_least));
    }
    let mut has_room = |written: &[u8]| {
        let more = (written.len() + behind_bytes).saturating_sub(share.bytes());
        is_wanted() && share.grow(more)
    };
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
        if !tensor(&mut body, output, is_binary, &mut has_room) {
            if !is_wanted() {
                return Err(Error::new(Code::Cancelled, "the client has left").into());
            }
            return Err(limits.answer_too_large(body.len() + behind_bytes));
        }
        if is_binary {
            behind.push(output.tensor.data());
        }
    }
    body.extend_from_slice(b"]}");
    let json_length = body.len();
    if behind_bytes > MIN_COUNTED_BYTES {
        body.reserve_exact(behind_bytes);
    }
    for data in &behind {
        body.extend_from_slice(data);
    }
    if body.len() >= MIN_COUNTED_BYTES {
        limits.count_answer(&mut share, body.len())?;
    }
    Ok(Encoded { data: body, json_length: (!behind.is_empty()).then_some(json_length), share })
}

/// Writes an output. False where there is no room for all of it.
fn tensor(body: &mut Vec<u8>, output: &OutputTensor, is_binary: bool, has_room: &mut dyn FnMut(&[u8]) -> bool) -> bool {
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
        if !write_elements_while(body, &output.tensor, has_room) {
            return false;
        }
    }
    body.push(b'}');
    true
}

fn number(body: &mut Vec<u8>, number: u64) {
    body.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A JSON string.
fn string(body: &mut Vec<u8>, text: &str) {
    // Writing a string into memory can't fail.
    let _ = serde_json::to_writer(body, text);
}
