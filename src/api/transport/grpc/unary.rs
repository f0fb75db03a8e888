//! Calls of one message and one answer, from the body to the trailers.
//!
//! Not by tonic, which gathers, unpacks and packs messages out of sight: they could be neither counted nor bounded while they
//! come, nor refused in words of this server's own.

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header::CONTENT_TYPE},
    response::Response,
};
use bytes::{BufMut, Bytes};
use hyper::body::Incoming;
use prost::Message;
use std::{
    any::type_name,
    sync::Arc,
    time::{Duration, Instant},
};

use super::small_body::MOST;
use crate::api::dialect::oip_grpc::{payload, status};
use crate::{
    api::{
        Context, Unwritten,
        dialect::oip_http,
        transport::{
            body::{Collected, KEPT, Pieces},
            compression::{Encoding, KNOWN, WORTH_IT, compress},
            limits::{Kind, Limit, Limits, Refusal},
            memory_budget::Share,
            response_body::{Answer, AnswerBody, Trailers, other, outgoing},
            wrong_port::is_grpc,
        },
    },
    error::{Code, Error, Result},
};

const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Smaller tensors are not worth a look at the message: their copy takes less.
const MIN_ALIGNED: usize = 4 << 10;

/// In front of every message: whether it is packed, and its length.
pub(in crate::api) const PREFIX: usize = 5;

/// A call, without its message.
pub(in crate::api) struct Call {
    pub context: Arc<Context>,
    unwritten: Arc<Unwritten>,
    pub headers: HeaderMap,
    /// When its headers came.
    pub arrived: Instant,
    /// The encoding that the message came in, if any, and that the client reads.
    answer_in: Option<Encoding>,
    /// What the decoded message holds beside its bytes.
    pub decoded: Share,
}

/// Answers a call with what `answer` makes of its message, which is small.
pub(in crate::api) async fn unary<M: Message + Default, A: Message>(
    mut call: Call,
    body: Incoming,
    answer: impl FnOnce(M) -> Result<A>,
) -> Answer {
    let limit = Limit { bytes: MOST, what: "the message of this method", setting: "which has no setting" };
    let received = call.receive(body, limit).await;
    let answered = received.and_then(|message| answer(decode(message)?)).map(|answer| {
        let mut data = Vec::with_capacity(PREFIX + answer.encoded_len());
        data.put_bytes(0, PREFIX);
        answer.encode_raw(&mut data);
        data
    });
    let share = Share::new(&call.context.limits.budget);
    match answered {
        Ok(data) => call.answer(data, share).await.unwrap_or_else(refused),
        Err(error) => refused(error),
    }
}

/// What a message says.
pub(in crate::api) fn decode<M: Message + Default>(message: Bytes) -> Result<M> {
    M::decode(message).map_err(|error| {
        let expected = type_name::<M>().rsplit("::").next().unwrap_or_default();
        Error::invalid(format!("the message is not what the method takes, {expected}: {error}"))
    })
}

impl Call {
    /// A call over a connection that has `unwritten` answers, and its body.
    pub(in crate::api) fn new(
        context: &Arc<Context>,
        unwritten: &Arc<Unwritten>,
        request: Request<Incoming>,
    ) -> (Self, Incoming) {
        let (head, body) = request.into_parts();
        let call = Call {
            context: context.clone(),
            unwritten: unwritten.clone(),
            headers: head.headers,
            arrived: Instant::now(),
            answer_in: None,
            decoded: Share::new(&context.limits.budget),
        };
        (call, body)
    }

    /// Receives the message, unpacked.
    pub(in crate::api) async fn receive(&mut self, body: Incoming, limit: Limit) -> Result<Bytes> {
        self.message(body, limit).await.map_err(|refusal| refusal.error)
    }

    /// How large the message of an inference may be.
    pub(in crate::api) fn limit(&self) -> Limit {
        Limit { bytes: self.context.limits.grpc_message, what: "the message", setting: "--max-grpc-message" }
    }

    /// A value that came beside the message.
    pub(in crate::api) fn metadata(&self, name: &str) -> Option<&[u8]> {
        self.headers.get(name).map(HeaderValue::as_bytes)
    }

    /// The deadline that the client set, as a time from the call's arrival: at most eight digits and a unit (gRPC over HTTP/2,
    /// "Timeout").
    pub(in crate::api) fn timeout(&self) -> Result<Option<Duration>> {
        self.headers.get(TIMEOUT).map(timeout).transpose()
    }

    /// The bytes of the one message, unpacked.
    async fn message(&mut self, body: Incoming, limit: Limit) -> Result<Bytes, Refusal> {
        let named = Encoding::named(&self.headers, ENCODING);
        let named = named.map_err(|why| Refusal::new(Kind::UnknownEncoding, why))?;
        let limits = &self.context.limits;
        let mut pieces = Pieces::new(body, limits, self.arrived);
        let (mut prefix, mut filled) = ([0; PREFIX], 0);
        let mut message: Option<Collecting> = None;
        while let Some(mut piece) = pieces.next().await? {
            let collecting = match &mut message {
                Some(collecting) => collecting,
                None => {
                    let came = piece.split_to((PREFIX - filled).min(piece.len()));
                    prefix[filled..filled + came.len()].copy_from_slice(&came);
                    filled += came.len();
                    if filled < PREFIX {
                        continue;
                    }
                    let mut collecting = Collecting::new(&prefix, named, limit, limits)?;
                    let tensor = payload::first(&piece, KEPT).or_else(|| payload::first(&piece, MIN_ALIGNED));
                    if let Some(tensor) = tensor {
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
            let came = pieces.received() - PREFIX;
            let announced = came + collecting.missing;
            return Err(malformed(format!("it ends after {came} of the message's {announced} bytes")));
        }
        // Accepted is not wanted: most clients say of every call what they could read.
        let packed = named.filter(|_| prefix[0] == 1);
        self.answer_in = packed.filter(|encoding| accepts(&self.headers, *encoding));
        collecting.collected.finish()
    }

    /// The answer to the call: a message, behind the room for its prefix. `share` may count it already.
    pub(in crate::api) async fn answer(&mut self, mut data: Vec<u8>, mut share: Share) -> Result<Answer> {
        let length = data.len() - PREFIX;
        let mut packed_in = None;
        // Packed only where there is room for both.
        if let Some(encoding) = self.answer_in.filter(|_| length >= WORTH_IT)
            && share.grow((2 * data.len()).saturating_sub(share.bytes()))
            && let Some(packed) = Box::pin(compress(encoding, &data[PREFIX..])).await
        {
            data.truncate(PREFIX);
            data.extend_from_slice(&packed);
            packed_in = Some(encoding);
        }
        self.finish(data, share, packed_in)
    }

    fn finish(&self, mut data: Vec<u8>, mut share: Share, packed_in: Option<Encoding>) -> Result<Answer> {
        let Ok(length) = u32::try_from(data.len() - PREFIX) else {
            let bytes = data.len() - PREFIX;
            return Err(Error::new(
                Code::ResourceExhausted,
                format!("the answer has {bytes} bytes, which gRPC can't carry"),
            ));
        };
        data[0] = packed_in.is_some().into();
        data[1..PREFIX].copy_from_slice(&length.to_be_bytes());
        let limits = &self.context.limits;
        limits.count_answer(&mut share, data.len()).map_err(|refusal| refusal.error)?;
        let body = outgoing(data, share, &self.unwritten, limits);
        let mut response = Response::new(AnswerBody::Message(body, Trailers::Due(None)));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        if let Some(encoding) = packed_in {
            response.headers_mut().insert(ENCODING, HeaderValue::from_static(encoding.name()));
        }
        Ok(response)
    }
}

/// A message that is coming.
struct Collecting {
    collected: Collected,
    /// Bytes of it that are still to come.
    missing: usize,
}

impl Collecting {
    fn new(
        prefix: &[u8; PREFIX],
        named: Option<Encoding>,
        limit: Limit,
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
    Refusal::new(Kind::Malformed, format!("the body of the call is malformed: {what}"))
}

/// The response to a call that failed.
pub(in crate::api) fn refused(error: Error) -> Answer {
    let unimplemented = error.code() == Code::Unimplemented;
    let mut response = other(status(error).into_http());
    if unimplemented {
        // Where it was for the encoding, the protocol wants to have them listed.
        response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static(KNOWN));
    }
    response
}

/// Refuses forms of gRPC that are not spoken here, as its specification has it.
pub(in crate::api) fn refused_form(headers: &HeaderMap) -> Option<Answer> {
    let form = headers.get(CONTENT_TYPE)?.as_bytes().strip_prefix(b"application/grpc")?;
    let (form, _) = form.split_at(form.iter().position(|byte| *byte == b';').unwrap_or(form.len()));
    let shown = String::from_utf8_lossy(form);
    match form.trim_ascii_end() {
        b"" | b"+proto" => None,
        [b'-', b'w', b'e', b'b', ..] => Some(other(oip_http::refusal(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!(
                "gRPC-Web is not spoken here: expected application/grpc over HTTP/2, got application/grpc{shown}; a proxy such as \
                 Envoy (filter grpc_web) translates it"
            ),
        ))),
        _ => Some(refused(Error::new(
            Code::Unimplemented,
            format!(
                "messages of gRPC are encoded as Protocol Buffers here: expected application/grpc or application/grpc+proto, got \
                 application/grpc{shown}; over HTTP requests are JSON"
            ),
        ))),
    }
}

/// Refuses what is not gRPC, as its specification has it.
pub(in crate::api) fn not_grpc(context: &Context, path: &str, headers: &HeaderMap) -> Option<Answer> {
    if is_grpc(headers) {
        return refused_form(headers);
    }
    let content_type = headers.get(CONTENT_TYPE);
    let got = content_type.map_or("none".into(), |value| format!("{value:?}"));
    let right = context.ports.right("grpc", path, false).unwrap_or_else(|| context.ports.place("http"));
    let message = format!("this port answers gRPC (content-type application/grpc), got content-type {got}; {right}");
    Some(other(oip_http::refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)))
}

fn accepts(headers: &HeaderMap, encoding: Encoding) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|name| Encoding::from_name(name.trim()) == Some(encoding))
}

fn timeout(value: &HeaderValue) -> Result<Duration> {
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
    fn grpc_timeouts() {
        let parse = |text: &str| timeout(&text.parse().unwrap());
        assert_eq!(parse("5S"), Ok(Duration::from_secs(5)));
        assert_eq!(parse("99999999H"), Ok(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(parse("20u"), Ok(Duration::from_micros(20)));
        for wrong in ["", "S", "5", "5s", "-5S", "+5S", "123456789S", "1.5S"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
