//! Answers into messages.

use bytes::BufMut;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::{api::transport::grpc::MESSAGE_PREFIX_BYTES, router::Answer, tensor::OutputTensor};

/// Fields of a `ModelInferResponse`, and of an output in it.
const MODEL_NAME: u32 = 1;
const MODEL_VERSION: u32 = 2;
const ID: u32 = 3;
const OUTPUTS: u32 = 5;
const RAW_OUTPUT_CONTENTS: u32 = 6;
const NAME: u32 = 1;
const DATATYPE: u32 = 2;
const SHAPE: u32 = 3;

/// Bytes of an answer as [`response`] writes it.
pub(super) fn response_length(answer: &Answer, id: &str) -> usize {
    let (version, outputs) = (&answer.version, &answer.output.tensors);
    let lengths: usize =
        outputs.iter().map(|output| field(output_length(output)) + field(output.tensor.data().len())).sum();
    let id = if id.is_empty() { 0 } else { field(id.len()) };
    MESSAGE_PREFIX_BYTES + field(version.model.len()) + field(version.number.len()) + id + lengths
}

/// An answer as a `ModelInferResponse`, behind the room for its prefix. Every output is raw: clients read typed contents of a
/// response for strings at most. Written as it is found: the generated message would hold copies of all the names, which
/// would take longer to make and to drop than the rest of the answer. `length` is that of [`response_length`].
pub(super) fn response(answer: &Answer, id: &str, length: usize) -> Vec<u8> {
    let (version, outputs) = (&answer.version, &answer.output.tensors);
    let mut data = Vec::with_capacity(length);
    data.put_bytes(0, MESSAGE_PREFIX_BYTES);
    put(&mut data, MODEL_NAME, version.model.as_bytes());
    put(&mut data, MODEL_VERSION, &version.number);
    if !id.is_empty() {
        put(&mut data, ID, id.as_bytes());
    }
    for output in outputs {
        let (datatype, shape) = (output.tensor.datatype(), output.tensor.shape());
        head(&mut data, OUTPUTS, output_length(output));
        put(&mut data, NAME, output.name.as_bytes());
        put(&mut data, DATATYPE, datatype.name().as_bytes());
        if !shape.extents().is_empty() {
            head(&mut data, SHAPE, shape_length(output));
            shape.extents().iter().for_each(|extent| encode_varint(*extent as u64, &mut data));
        }
    }
    for output in outputs {
        put(&mut data, RAW_OUTPUT_CONTENTS, output.tensor.data());
    }
    data
}

/// Bytes of an output without its contents.
fn output_length(output: &OutputTensor) -> usize {
    let shape = shape_length(output);
    let shape = if shape == 0 { 0 } else { field(shape) };
    field(output.name.len()) + field(output.tensor.datatype().name().len()) + shape
}

/// Bytes of a shape, packed.
fn shape_length(output: &OutputTensor) -> usize {
    output.tensor.shape().extents().iter().map(|extent| encoded_len_varint(*extent as u64)).sum()
}

/// Bytes of a field whose content has so many. All numbers of fields here take one byte.
fn field(length: usize) -> usize {
    1 + encoded_len_varint(length as u64) + length
}

/// Writes the key and the length in front of the content of a field.
fn head(data: &mut Vec<u8>, number: u32, length: usize) {
    encode_key(number, WireType::LengthDelimited, data);
    encode_varint(length as u64, data);
}

fn put(data: &mut Vec<u8>, number: u32, content: &[u8]) {
    head(data, number, content.len());
    data.extend_from_slice(content);
}
