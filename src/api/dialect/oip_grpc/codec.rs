//! Codec of the Open Inference Protocol over gRPC: its implementation of the dialect that the pipeline calls.

use bytes::Bytes;
use std::time::{Duration, Instant};

use super::{cost, decode, encode, payload};
use crate::{
    api::{
        dialect::{Decoded, Dialect, Encoded, Undecoded},
        proto::ModelInferRequest,
        transport::{
            Limits, Refusal, Share,
            grpc::{MESSAGE_PREFIX_BYTES, decode_message},
        },
    },
    error::Result,
    router::Answer,
};

/// A call of `ModelInfer`.
pub(in crate::api) struct OipGrpc {
    /// The deadline that its headers set, as a time from its arrival.
    pub timeout: Result<Option<Duration>>,
}

/// The form of the answer to a call.
pub(in crate::api) struct Form {
    /// The part of the byte budget for the decoded message beside its tensors.
    _share: Share,
}

/// A message that is smaller takes little memory decoded, whatever is in it.
const MIN_COSTLY_MESSAGE_BYTES: usize = 16 << 10;

/// Bytes that are copied in the time that a byte of text takes to write.
const COPIED_PER_CHARACTER: usize = 32;

impl Dialect for OipGrpc {
    type Form = Form;

    const PREFIX: usize = MESSAGE_PREFIX_BYTES;

    fn deadline(&self, arrived: Instant) -> Option<Instant> {
        let timeout = self.timeout.as_ref().ok().copied().flatten();
        timeout.and_then(|timeout| arrived.checked_add(timeout))
    }

    fn decode_cost(&self, message: &[u8]) -> usize {
        cost::to_parse(message)
    }

    fn decode(self, message: Bytes, arrived: Instant, limits: &Limits) -> Result<Decoded<Form>, Undecoded> {
        let mut share = Share::new(&limits.budget);
        // Memory that decoding takes beside the message, where that can be much.
        if message.len() >= MIN_COSTLY_MESSAGE_BYTES && !share.grow(cost::decoded(&message)) {
            return Err(limits.full().error.into());
        }
        let mut message: ModelInferRequest = decode_message(message)?;
        // Raw contents are slices of the message, and keep it. Of others nothing is left of it.
        let keeps_message = !message.raw_input_contents.is_empty();
        let id = std::mem::take(&mut message.id);
        let named = |error, model| Undecoded { error, names: Some((model, id.clone())) };
        let timeout = match self.timeout {
            Ok(timeout) => timeout,
            Err(error) => return Err(named(error, message.model_name)),
        };
        let mut request = decode::request(message, arrived).map_err(|(error, model)| named(error, model))?;
        let from_header = timeout.and_then(|timeout| arrived.checked_add(timeout));
        request.deadline = request.deadline.into_iter().chain(from_header).min();
        Ok(Decoded { request, id, form: Form { _share: share }, keeps_message })
    }

    fn encode_cost(answer: &Answer, _form: &Form) -> usize {
        let bytes: usize = answer.output.tensors.iter().map(|output| output.tensor.data().len()).sum();
        bytes / COPIED_PER_CHARACTER
    }

    fn encode(
        answer: &Answer,
        id: &str,
        _form: &Form,
        limits: &Limits,
        _is_wanted: &dyn Fn() -> bool,
    ) -> Result<Encoded, Refusal> {
        let length = encode::response_length(answer, id);
        let mut share = Share::new(&limits.budget);
        limits.count_answer(&mut share, length)?;
        Ok(Encoded { data: encode::response(answer, id, length), json_length: None, share })
    }
}

/// Tensors of more bytes stay where they were read if they lie aligned there.
const MIN_KEPT_BYTES: usize = 64 << 10;

/// Smaller tensors are not worth a look at the message: their copy takes less.
const MIN_ALIGNED_BYTES: usize = 4 << 10;

/// The place of the tensor that is to lie aligned, by the first bytes of a message.
pub(in crate::api) fn tensor_place(beginning: &[u8]) -> Option<usize> {
    payload::first(beginning, MIN_KEPT_BYTES).or_else(|| payload::first(beginning, MIN_ALIGNED_BYTES))
}

/// The request in a message, for the fuzz targets; `None` where it is no message.
#[cfg(any(fuzzing, test))]
pub(crate) fn decode_for_fuzzing(message: Bytes) -> Option<Result<crate::tensor::Request>> {
    let message = <ModelInferRequest as prost::Message>::decode(message).ok()?;
    Some(decode::request(message, Instant::now()).map_err(|(error, _)| error))
}
