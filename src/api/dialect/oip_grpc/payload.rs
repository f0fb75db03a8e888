//! The place of a tensor in the message of a request, read from the first bytes of the message.

use super::cost::varint;

/// The field of an inference request that has the bytes of tensors.
const RAW_INPUT_CONTENTS: u64 = 7;

/// The place of the first tensor of at least so many bytes, where it begins in `beginning`.
pub(super) fn first(beginning: &[u8], at_least: usize) -> Option<usize> {
    let mut rest = beginning;
    loop {
        let tag = varint(&mut rest)?;
        match tag & 7 {
            0 => drop(varint(&mut rest)?),
            1 => drop(rest.split_off(..8)?),
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                if tag >> 3 == RAW_INPUT_CONTENTS && length >= at_least {
                    return Some(beginning.len() - rest.len());
                }
                rest.split_off(..length)?;
            }
            5 => drop(rest.split_off(..4)?),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::proto::{ModelInferRequest, model_infer_request::InferInputTensor};
    use bytes::Bytes;
    use proptest::prelude::*;
    use prost::Message;

    proptest! {
        #[test]
        fn payload_offset_matches_the_decoder(model in "[a-z]{1,200}", names in prop::collection::vec("[a-z]{0,9}", 1..4), large in 0..4usize) {
            let input = |name: &String| InferInputTensor { name: name.clone(), shape: vec![1, 300], ..Default::default() };
            let raw = |index| Bytes::from(vec![7; if index == large { 1000 } else { index }]);
            let message = ModelInferRequest {
                model_name: model,
                inputs: names.iter().map(input).collect(),
                raw_input_contents: (0..names.len()).map(raw).collect(),
                ..Default::default()
            };
            let message = Bytes::from(message.encode_to_vec());
            let decoded = ModelInferRequest::decode(message.clone()).unwrap();
            let place = |raw: &Bytes| raw.as_ptr().addr() - message.as_ptr().addr();
            let expected = decoded.raw_input_contents.get(large).map(place);
            prop_assert_eq!(first(&message, 1000), expected);
            // Its first byte need not have come, but its length.
            for beginning in (0..message.len()).map(|end| &message[..end]) {
                prop_assert_eq!(first(beginning, 1000), expected.filter(|place| *place <= beginning.len()));
            }
        }

        #[test]
        fn payload_offset_stays_within_arbitrary_bytes(bytes: Vec<u8>) {
            prop_assert!(first(&bytes, 1).is_none_or(|place| place <= bytes.len()));
        }
    }
}
