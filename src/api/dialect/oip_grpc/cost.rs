//! Memory of a decoded message, and time to decode it. Decoded, a message can take a hundred times as much as on the wire: an
//! empty input is two bytes there.

use bytes::Bytes;

use crate::api::{
    proto::{
        InferParameter, InferTensorContents,
        model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    },
    transport::{CHECKED_PER_PARSED, MAX_INLINE_BYTES, has_checked_elements},
};

/// A field that takes more decoded than on the wire.
enum Field {
    /// So many bytes each time.
    Each(usize),
    /// So many bytes for every number.
    Numbers(usize),
    /// So many bytes each time, and what the fields in it take.
    Message(usize, &'static [(u64, Field)]),
}

/// Lists double when they are full.
const fn listed<T>() -> usize {
    2 * size_of::<T>()
}

/// A parameter in its table, with its name.
const PARAMETER: Field = Field::Each(2 * (size_of::<String>() + size_of::<InferParameter>()) + 32);

const REQUEST: &[(u64, Field)] = &[
    (4, PARAMETER),
    (5, Field::Message(listed::<InferInputTensor>(), INPUT)),
    (6, Field::Message(listed::<InferRequestedOutputTensor>(), &[(2, PARAMETER)])),
    (7, Field::Each(listed::<Bytes>())),
];

const INPUT: &[(u64, Field)] = &[
    (3, Field::Numbers(listed::<i64>())),
    (4, PARAMETER),
    (5, Field::Message(size_of::<InferTensorContents>(), CONTENTS)),
];

const CONTENTS: &[(u64, Field)] = &[
    (1, Field::Numbers(listed::<bool>())),
    (2, Field::Numbers(listed::<i32>())),
    (3, Field::Numbers(listed::<i64>())),
    (4, Field::Numbers(listed::<u32>())),
    (5, Field::Numbers(listed::<u64>())),
    (8, Field::Each(listed::<Bytes>())),
];

/// Bytes that an inference request takes decoded, beside those of the message; as far as it can be decoded.
pub(super) fn decoded(request: &[u8]) -> usize {
    let mut bytes = 0;
    fields(request, REQUEST, &mut bytes);
    bytes
}

/// Fields of a message that are looked at, one by one, to see how much there is to parse. An honest request has some more than it
/// has inputs.
const MAX_FIELDS: usize = 1024;

/// The field of an inference request that has the bytes of tensors, which are not parsed.
const RAW_INPUT_CONTENTS: u64 = 7;

/// The field of an inference request that has an input without its raw contents.
const INPUTS: u64 = 5;

/// Bytes of a message that have to be looked at one by one: all but raw contents, and a part of those where their elements are
/// checked. Takes little time whatever the message is.
pub(super) fn to_parse(request: &[u8]) -> usize {
    if request.len() <= MAX_INLINE_BYTES {
        // Whatever it is, it takes little.
        return request.len();
    }
    let (mut rest, mut raw, mut checked) = (request, 0, false);
    for _ in 0..MAX_FIELDS {
        let Some(tag) = varint(&mut rest) else { break };
        let skipped = match tag & 7 {
            0 => varint(&mut rest).map(|_| 0),
            1 => rest.split_off(..8).map(|_| 0),
            2 => varint(&mut rest).and_then(|length| {
                let length = usize::try_from(length).ok()?;
                let content = rest.split_off(..length)?;
                checked |= tag >> 3 == INPUTS && length <= MAX_INLINE_BYTES && has_checked_elements(content);
                Some(if tag >> 3 == RAW_INPUT_CONTENTS { length } else { 0 })
            }),
            5 => rest.split_off(..4).map(|_| 0),
            _ => None,
        };
        let Some(skipped) = skipped else { break };
        raw += skipped;
    }
    request.len() - raw + if checked { raw / CHECKED_PER_PARSED } else { 0 }
}

/// Adds what the fields take; `None` where the message is none from there on.
fn fields(mut message: &[u8], known: &[(u64, Field)], bytes: &mut usize) -> Option<()> {
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let field = known.iter().find(|(number, _)| *number == tag >> 3).map(|(_, field)| field);
        let content = match tag & 7 {
            0 => {
                varint(&mut message)?;
                &[][..]
            }
            1 => message.split_off(..8)?,
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message.split_off(..length)?
            }
            // Groups, which are of the past, are skipped when it is decoded. Their contents may count here.
            3 | 4 => continue,
            5 => message.split_off(..4)?,
            _ => return None,
        };
        match field {
            None => {}
            Some(Field::Each(takes)) => *bytes = bytes.saturating_add(*takes),
            // A number ends with the first byte below 128. Not packed, it is a field of its own.
            Some(Field::Numbers(takes)) => {
                let numbers = content.iter().filter(|byte| **byte < 128).count().max(1);
                *bytes = bytes.saturating_add(takes.saturating_mul(numbers));
            }
            Some(Field::Message(takes, known)) => {
                *bytes = bytes.saturating_add(*takes);
                fields(content, known, bytes)?;
            }
        }
    }
    Some(())
}

pub(super) fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *message.split_off_first()?;
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::proto::ModelInferRequest;
    use prost::Message;

    #[test]
    fn raw_contents_need_no_parsing() {
        let raw = |inputs: usize, length| {
            let raw_input_contents = vec![Bytes::from(vec![1; length]); inputs];
            ModelInferRequest { model_name: "m".into(), raw_input_contents, ..Default::default() }.encode_to_vec()
        };
        assert!(to_parse(&raw(3, 1 << 20)) < 32);
        let of = |datatype: &str| {
            let input = InferInputTensor { datatype: datatype.into(), ..Default::default() };
            let raw_input_contents = vec![Bytes::from(vec![0; 1 << 20])];
            to_parse(
                &ModelInferRequest { inputs: vec![input], raw_input_contents, ..Default::default() }.encode_to_vec(),
            )
        };
        assert!(of("FP32") < 32 && of("BOOL") > 100_000 && of("BYTES") > 100_000);
        let many = raw(MAX_FIELDS + 1000, 1000);
        assert!(to_parse(&many) > 900 * 1000, "of many fields the first are looked at");
        let contents = InferTensorContents { fp32_contents: vec![1.0; 100_000], ..Default::default() };
        let input = InferInputTensor { contents: Some(Box::new(contents)), ..Default::default() };
        let typed = ModelInferRequest { inputs: vec![input], ..Default::default() }.encode_to_vec();
        assert_eq!(to_parse(&typed), typed.len());
        for wrong in [&[0x3a, 100][..], &[0xff; 20], &[0x0f], &[]] {
            assert_eq!(to_parse(wrong), wrong.len());
        }
    }

    #[test]
    fn decoded_cost_counts_inputs_shapes_and_parameters() {
        let input = |contents| InferInputTensor { contents: Some(Box::new(contents)), ..InferInputTensor::default() };
        let request = |inputs| ModelInferRequest { inputs, ..ModelInferRequest::default() }.encode_to_vec();
        assert_eq!(decoded(&request(vec![])), 0);
        assert_eq!(decoded(&request(vec![InferInputTensor::default(); 1000])), 1000 * listed::<InferInputTensor>());
        let shape = InferInputTensor { shape: vec![1, -1, 300], ..InferInputTensor::default() };
        assert_eq!(decoded(&request(vec![shape])), listed::<InferInputTensor>() + 3 * 16);
        let one = listed::<InferInputTensor>();
        let typed = one + size_of::<InferTensorContents>();
        let numbers = InferTensorContents { int64_contents: vec![7; 500], ..InferTensorContents::default() };
        assert_eq!(decoded(&request(vec![input(numbers)])), typed + 500 * 16);
        let floats = InferTensorContents { fp32_contents: vec![7.0; 500], ..InferTensorContents::default() };
        assert_eq!(decoded(&request(vec![input(floats)])), typed, "they take as much on the wire");
        let parameters = (0..100).map(|number: i32| (number.to_string(), InferParameter::default())).collect();
        let message = ModelInferRequest { parameters, ..ModelInferRequest::default() }.encode_to_vec();
        assert!(decoded(&message) >= 100 * 100);
        // Unpacked numbers, and bytes that are no message.
        assert_eq!(decoded(&[0x2a, 4, 0x18, 1, 0x18, 2]), one + 2 * 16);
        for wrong in [&[0x2a, 100][..], &[0xff; 20], &[0x08], &[0x0f]] {
            assert_eq!(decoded(wrong), 0);
            let after = [&[0x2a, 0, 0x0b, 0x0c, 0x2a, 0][..], wrong].concat();
            assert_eq!(decoded(&after), 2 * one, "what comes before it, and behind a group, is decoded");
        }
    }
}
