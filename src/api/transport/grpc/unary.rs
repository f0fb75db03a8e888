//! Calls of one message and one answer, from the body to the trailers.
//!
//! Not by tonic, which gathers, unpacks and packs messages out of sight: they could be neither counted nor bounded while they
//! come, nor refused in words of this server's own.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, header::CONTENT_TYPE};
use bytes::{BufMut, Bytes};
use hyper::body::Incoming;
use prost::Message;
use std::{
    any::type_name,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    small_body::MAX_SMALL_BODY_BYTES,
    status::{ACCEPT_ENCODING, refused},
};
use crate::{
    api::transport::{
        body::{Collected, Pieces},
        compression::{Encoding, compress_in_place},
        limits::{ByteLimit, Limits, Refusal, RefusalKind},
        memory_budget::Share,
        response_body::{AnswerBody, HttpResponse, PendingResponses, Trailers, outgoing},
    },
    error::{Code, Error, Result},
};

const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// In front of every message: whether it is compressed, and its length.
pub(in crate::api) const MESSAGE_PREFIX_BYTES: usize = 5;

/// Finds the tensor of a message that is to lie aligned, by the message's first bytes.
type TensorPlace = fn(&[u8]) -> Option<usize>;

/// Answers a call with what `answer` makes of its message, which is small.
pub(in crate::api) async fn unary<M: Message + Default, A: Message>(
    limits: Arc<Limits>,
    pending: Arc<PendingResponses>,
    request: Request<Incoming>,
    answer: impl FnOnce(M) -> Result<A>,
) -> HttpResponse {
    let (head, body) = request.into_parts();
    let limit =
        ByteLimit { bytes: MAX_SMALL_BODY_BYTES, what: "the message of this method", setting: "which has no setting" };
    let received = receive_message(&head.headers, body, limit, &limits, Instant::now(), |_| None).await;
    let (message, encoding) = match received {
        Ok(received) => received,
        Err(refusal) => return refused(refusal.error),
    };
    let answered = decode_message(message).and_then(answer);
    let mut data = match answered {
        Ok(answer) => message_of(&answer),
        Err(error) => return refused(error),
    };
    let mut share = Share::new(&limits.budget);
    let compressed = match encoding {
        Some(encoding) => compress_in_place(encoding, &mut data, MESSAGE_PREFIX_BYTES, &mut share).await,
        None => None,
    };
    let response = message_response(data, share, compressed, &pending, &limits);
    response.unwrap_or_else(|refusal| refused(refusal.error))
}

/// A message behind the room for its prefix.
fn message_of(answer: &impl Message) -> Vec<u8> {
    let mut data = Vec::with_capacity(MESSAGE_PREFIX_BYTES + answer.encoded_len());
    data.put_bytes(0, MESSAGE_PREFIX_BYTES);
    answer.encode_raw(&mut data);
    data
}

/// Decodes a message.
pub(in crate::api) fn decode_message<M: Message + Default>(message: Bytes) -> Result<M> {
    M::decode(message).map_err(|error| {
        let expected = type_name::<M>().rsplit("::").next().unwrap_or_default();
        Error::invalid(format!("the message is not what the method takes, {expected}: {error}"))
    })
}

/// The deadline that the client set, as a time from the call's arrival: at most eight digits and a unit (gRPC over HTTP/2,
/// "Timeout").
pub(in crate::api) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>> {
    headers.get(TIMEOUT).map(parse_timeout).transpose()
}

/// Receives the one message of a call that came at `arrived`, decompressed, with the encoding that it came in if the client
/// reads that too.
pub(in crate::api) async fn receive_message(
    headers: &HeaderMap,
    body: Incoming,
    limit: ByteLimit,
    limits: &Arc<Limits>,
    arrived: Instant,
    tensor_place: TensorPlace,
) -> Result<(Bytes, Option<Encoding>), Refusal> {
    let named = Encoding::named(headers, ENCODING);
    let named = named.map_err(|why| Refusal::new(RefusalKind::UnknownEncoding, why))?;
    let mut pieces = Pieces::new(body, limits, arrived);
    let (mut prefix, mut filled) = ([0; MESSAGE_PREFIX_BYTES], 0);
    let mut message: Option<Collecting> = None;
    while let Some(mut piece) = pieces.next().await? {
        let collecting = match &mut message {
            Some(collecting) => collecting,
            None => {
                let came = piece.split_to((MESSAGE_PREFIX_BYTES - filled).min(piece.len()));
                prefix[filled..filled + came.len()].copy_from_slice(&came);
                filled += came.len();
                if filled < MESSAGE_PREFIX_BYTES {
                    continue;
                }
                let mut collecting = Collecting::new(&prefix, named, limit, limits)?;
                if let Some(tensor) = tensor_place(&piece) {
                    collecting.collected.align(tensor);
                }
                message.insert(collecting)
            }
        };
        if piece.len() > collecting.missing {
            return Err(malformed("there is more than one message in it".into()));
        }
        collecting.missing -= piece.len();
        if !piece.is_empty() {
            collecting.collected.take(piece).await?;
        }
    }
    let Some(collecting) = message else {
        return Err(malformed(format!("it has {filled} bytes, which is no message")));
    };
    if collecting.missing > 0 {
        let came = pieces.received() - MESSAGE_PREFIX_BYTES;
        let announced = came + collecting.missing;
        return Err(malformed(format!("it ends after {came} of the message's {announced} bytes")));
    }
    // Accepted is not wanted: most clients say of every call what they could read.
    let compressed = named.filter(|_| prefix[0] == 1);
    Ok((collecting.collected.finish()?, compressed.filter(|encoding| accepts(headers, *encoding))))
}

/// The response with a message, which stands behind the room for its prefix and may be compressed. `share` may count it
/// already.
pub(in crate::api) fn message_response(
    mut data: Vec<u8>,
    mut share: Share,
    compressed: Option<Encoding>,
    pending: &Arc<PendingResponses>,
    limits: &Limits,
) -> Result<HttpResponse, Refusal> {
    let bytes = data.len() - MESSAGE_PREFIX_BYTES;
    let Ok(length) = u32::try_from(bytes) else {
        let message = format!("the answer has {bytes} bytes, which gRPC can't carry");
        return Err(Error::new(Code::ResourceExhausted, message).into());
    };
    data[0] = compressed.is_some().into();
    data[1..MESSAGE_PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
    limits.count_answer(&mut share, data.len())?;
    let body = outgoing(data, share, pending, limits);
    let mut response = HttpResponse::new(AnswerBody::Message(body, Trailers::Due(None)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    if let Some(encoding) = compressed {
        response.headers_mut().insert(ENCODING, HeaderValue::from_static(encoding.name()));
    }
    Ok(response)
}

/// A message that is coming.
struct Collecting {
    collected: Collected,
    /// Bytes of it that are still to come.
    missing: usize,
}

impl Collecting {
    fn new(
        prefix: &[u8; MESSAGE_PREFIX_BYTES],
        named: Option<Encoding>,
        limit: ByteLimit,
        limits: &Arc<Limits>,
    ) -> Result<Self, Refusal> {
        let [packed, length @ ..] = *prefix;
        let length = u32::from_be_bytes(length) as usize;
        let encoding = match packed {
            0 => None,
            1 if named.is_some() => named,
            1 => {
                return Err(malformed(
                    "the message says that it is packed, but grpc-encoding names no encoding".into(),
                ));
            }
            other => {
                return Err(malformed(format!("it begins with {other}, which is neither 0 (as it is) nor 1 (packed)")));
            }
        };
        if length > limit.bytes {
            return Err(limit.exceeded(&format!("of {length} bytes")));
        }
        Ok(Collecting { collected: Collected::new(limit, length as u64, encoding, limits)?, missing: length })
    }
}

fn malformed(what: String) -> Refusal {
    Refusal::new(RefusalKind::Malformed, format!("the body of the call is malformed: {what}"))
}

fn accepts(headers: &HeaderMap, encoding: Encoding) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|name| Encoding::from_name(name.trim()) == Some(encoding))
}

fn parse_timeout(value: &HeaderValue) -> Result<Duration> {
    let parse = |text: &str| {
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let is_number = digits.len() <= 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
        let amount: u64 = is_number.then(|| digits.parse().ok())??;
        match unit {
            "H" => Some(Duration::from_secs(amount * 3600)),
            "M" => Some(Duration::from_secs(amount * 60)),
            "S" => Some(Duration::from_secs(amount)),
            "m" => Some(Duration::from_millis(amount)),
            "u" => Some(Duration::from_micros(amount)),
            "n" => Some(Duration::from_nanos(amount)),
            _ => None,
        }
    };
    let timeout = value.to_str().ok().and_then(parse);
    timeout.ok_or_else(|| {
        Error::invalid(format!(
            "grpc-timeout {value:?} is not a number of at most 8 digits and one of H, M, S, m, u, n"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeout_has_digits_and_a_unit() {
        let parse = |text: &str| parse_timeout(&text.parse().unwrap());
        assert_eq!(parse("5S"), Ok(Duration::from_secs(5)));
        assert_eq!(parse("99999999H"), Ok(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(parse("20u"), Ok(Duration::from_micros(20)));
        for wrong in ["", "S", "5", "5s", "-5S", "+5S", "123456789S", "1.5S"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
