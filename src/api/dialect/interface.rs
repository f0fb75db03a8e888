//! The interface between the pipeline and a dialect: bytes to a request, an answer to bytes.

use bytes::Bytes;
use std::time::Instant;

use crate::{
    api::transport::{Limits, Refusal, Share},
    error::Error,
    router::Answer,
    tensor::Request,
};

/// One request in a protocol's way to say an inference.
pub(crate) trait Dialect: Sized + Send + 'static {
    /// The request's wishes for the form of its answer.
    type Form: Send + 'static;

    /// Bytes that an encoded answer leaves free at its beginning, for the transport.
    const PREFIX: usize;

    /// Time by which the message has to be decoded, where it is known before.
    fn deadline(&self, _arrived: Instant) -> Option<Instant> {
        None
    }

    /// Bytes of text that take as long to parse as the message takes to decode.
    fn decode_cost(&self, message: &[u8]) -> usize;

    /// Decodes the message of a request that came at `arrived`.
    fn decode(self, message: Bytes, arrived: Instant, limits: &Limits) -> Result<Decoded<Self::Form>, Undecoded>;

    /// Bytes of text that take as long to write as the answer takes to encode.
    fn encode_cost(answer: &Answer, form: &Self::Form) -> usize;

    /// Encodes an answer. A long encoding ends with an error once the answer is not wanted any more.
    ///
    /// # Errors
    /// The byte budget has no room for it.
    fn encode(
        answer: &Answer,
        id: &str,
        form: &Self::Form,
        limits: &Limits,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Encoded, Refusal>;
}

/// A decoded request.
pub(crate) struct Decoded<F> {
    pub request: Request,
    /// The id in the message.
    pub id: String,
    pub form: F,
    /// True if tensors may be slices of the message, which then stays counted as long as they live.
    pub keeps_message: bool,
}

/// A message that could not be decoded.
pub(crate) struct Undecoded {
    pub error: Error,
    /// The model's name and the id in the message, where decoding came as far as those.
    pub names: Option<(String, String)>,
}

impl From<Error> for Undecoded {
    fn from(error: Error) -> Self {
        Undecoded { error, names: None }
    }
}

/// An encoded answer.
pub(crate) struct Encoded {
    /// The bytes, behind [`Dialect::PREFIX`] free ones.
    pub data: Vec<u8>,
    /// Length of the JSON in it, where binary tensors stand behind it.
    pub json_length: Option<usize>,
    /// The part of the byte budget that is held for it: for all of it, or for nothing yet where it is small.
    pub share: Share,
}
