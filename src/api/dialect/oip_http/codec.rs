//! Codec of the Open Inference Protocol over HTTP: its implementation of the dialect that the pipeline calls.

use bytes::Bytes;
use std::time::Instant;

use super::{
    decode::{self, BinaryOutputs},
    encode,
    target::PathTarget,
};
use crate::{
    api::{
        dialect::{Decoded, Dialect, Encoded, Undecoded},
        transport::{Limits, Refusal},
    },
    router::Answer,
};

/// A request over HTTP.
pub(crate) struct OipHttp {
    pub target: PathTarget,
    /// Length of the JSON in its body, where binary tensors may stand behind it.
    pub json_length: Option<usize>,
}

impl Dialect for OipHttp {
    type Form = BinaryOutputs;

    const PREFIX: usize = 0;

    fn decode_cost(&self, body: &[u8]) -> usize {
        decode::cost(body, self.json_length)
    }

    fn decode(self, body: Bytes, arrived: Instant, _limits: &Limits) -> Result<Decoded<BinaryOutputs>, Undecoded> {
        let (model, selector) = self.target.into_parts()?;
        Ok(decode::request(model, selector, self.json_length, body, arrived)?)
    }

    fn encode_cost(answer: &Answer, binary: &BinaryOutputs) -> usize {
        encode::cost(answer, binary)
    }

    fn encode(
        answer: &Answer,
        id: &str,
        binary: &BinaryOutputs,
        limits: &Limits,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Encoded, Refusal> {
        encode::body(answer, id, binary, limits, is_wanted)
    }
}

/// The request in a body, for the fuzz targets.
#[cfg(any(fuzzing, test))]
pub(crate) fn decode_for_fuzzing(
    json_length: Option<&[u8]>,
    body: Bytes,
) -> crate::error::Result<crate::tensor::Request> {
    use crate::{api::headers::JSON_LENGTH, traffic::Selector};
    use axum::http::{HeaderMap, HeaderValue};

    let mut headers = HeaderMap::new();
    if let Some(value) = json_length.and_then(|bytes| HeaderValue::from_bytes(bytes).ok()) {
        headers.insert(JSON_LENGTH, value);
    }
    let json_length = decode::json_length("model", &headers, body.len())?;
    decode::request("model".into(), Selector::Any, json_length, body, Instant::now()).map(|decoded| decoded.request)
}
