//! Plain requests over HTTP/1.1: from the bytes of a connection to the bytes of their answer.
//!
//! An inference of a small model takes less time than the way through an HTTP library: a map of headers, a request and a
//! response of many parts, a channel for a body that is there already. Plain requests, which are most, go without. What they
//! mean, and what they are told, is decided by the same functions as for all others.

use axum::{
    body::{Body, to_bytes},
    http::{Request, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use std::{io::Write, net::SocketAddr, sync::Arc, time::Instant};
use tower_service::Service as _;

use super::{
    JSON_LENGTH,
    decode::Binary,
    encode::{self, Encoded, content_type, number},
    service,
};
use crate::api::transport::http::{
    date::date,
    head::{self, Head, Kind, Look},
};
use crate::{
    api::{
        Context, MODEL_VERSION, ROUTING_REASON, Unwritten,
        dialect::parameters::PRIORITY_NAME,
        request_log::{Beside, Notes, Protocol, REQUEST_ID, SERVER_TIMING, Told},
        transport::{
            body::aligned_copy,
            codec_pool::MAX_INLINE_BYTES,
            compression::{Encoding, WORTH_IT},
            limits::Limits,
            memory_budget::{Share, guarded},
            response_body::{Outgoing, outgoing},
        },
    },
    router::{Answer, Submitted},
};

/// Answers plain requests of one client.
#[derive(Clone)]
pub struct Plain {
    context: Arc<Context>,
    rest: axum::Router,
    client: SocketAddr,
}

/// A request that has begun. Dropped, it is cancelled.
pub struct Asked(State);

enum State {
    Inference { submitted: Submitted, id: String, binary: Binary, encoding: Option<Encoding>, notes: Notes },
    Refused(Response, Notes),
    Get(Uri),
}

/// An answer.
pub struct Reply {
    /// All of the head but what the connection adds.
    head: Vec<u8>,
    body: Bytes,
}

/// A body up to this size is written together with its head.
const TOGETHER: usize = 64 << 10;

impl Plain {
    pub(in crate::api) fn new(context: &Arc<Context>, rest: &axum::Router, client: SocketAddr) -> Self {
        Plain { context: context.clone(), rest: rest.clone(), client }
    }

    /// Looks at what comes next on a connection.
    pub fn look(&self, bytes: &[u8]) -> Look {
        match head::look(bytes) {
            Look::Plain(head) if !self.takes(&head) => Look::Other,
            look => look,
        }
    }

    /// Whether the body is none that is refused for its size.
    fn takes(&self, head: &Head) -> bool {
        let limits = &self.context.limits;
        match head.kind {
            Kind::Infer { json_length, .. } => {
                head.body <= limits.http_body && json_length.unwrap_or(head.body) <= limits.http_json
            }
            Kind::Get(_) => true,
        }
    }

    /// Begins a request that has come whole: these are the bytes of its head and body.
    pub fn ask(&self, head: Head, bytes: &[u8]) -> Asked {
        let (beginning, body) = bytes.split_at(head.length.min(bytes.len()));
        let (target, json_length, encoding, has_beside, is_traced, has_priority) = match head.kind {
            Kind::Infer { target, json_length, encoding, has_beside, is_traced, has_priority } => {
                (target, json_length, encoding, has_beside, is_traced, has_priority)
            }
            Kind::Get(uri) => return Asked(State::Get(uri)),
        };
        let context = &*self.context;
        let arrived = Instant::now();
        let log = context.access_log.as_ref();
        let reads = has_beside || is_traced && log.is_some();
        let beside = if reads { head::beside(beginning) } else { Beside::default() };
        let mut notes = Notes::begin(log, Protocol::Http, self.client, beside, arrived);
        let mut share = Share::new(&context.limits.budget);
        if !share.grow(body.len()) {
            let refusal = context.limits.full();
            context.router.undecoded(&refusal.error);
            notes.asks(target.model(), body.len());
            notes.failed(&refusal.error);
            return Asked(State::Refused(service::refused(refusal), notes));
        }
        let body =
            if body.is_empty() { Bytes::new() } else { guarded(aligned_copy(body, json_length.unwrap_or(0)), share) };
        let header = |name: &str| head::header(beginning, name);
        notes.asks(target.model(), body.len());
        let priority = has_priority.then(|| head::header(beginning, PRIORITY_NAME)).flatten();
        let decoded = service::decoded(&context.limits, target, json_length, body, arrived);
        let submitted = service::submitted(context, decoded, priority, &header, &mut notes);
        Asked(match submitted {
            Ok((submitted, id, binary)) => State::Inference { submitted, id, binary, encoding, notes },
            Err(error) => {
                notes.failed(&error);
                State::Refused(error.into_response(), notes)
            }
        })
    }

    /// Waits for the answer.
    pub async fn answer(&self, asked: Asked) -> Reply {
        let (response, notes) = match asked.0 {
            State::Inference { submitted, id, binary, encoding, mut notes } => match submitted.answer().await {
                Ok(answer) => {
                    notes.ran(answer.timing);
                    let encoded = if encode::work(&answer, &binary) > MAX_INLINE_BYTES {
                        Box::pin(service::encoded_aside(&self.context, answer, id, binary)).await
                    } else {
                        encode::body(&answer, &id, &binary, &self.context.limits).map(|encoded| (answer, encoded))
                    };
                    match encoded {
                        Ok((answer, encoded)) => return self.reply(&answer, encoded, encoding, notes).await,
                        Err(refusal) => {
                            notes.failed(&refusal.error);
                            (service::refused(refusal), notes)
                        }
                    }
                }
                Err(error) => {
                    notes.failed(&error);
                    (error.into_response(), notes)
                }
            },
            State::Refused(response, notes) => (response, notes),
            State::Get(uri) => (self.get(uri).await, Notes::none()),
        };
        Reply::other(response, notes, &self.context.limits).await
    }

    /// The answer of an inference, packed where the client wants it and it pays.
    async fn reply(&self, answer: &Answer, encoded: Encoded, encoding: Option<Encoding>, notes: Notes) -> Reply {
        let Encoded { mut body, json_length, mut share } = encoded;
        let mut packed_in = None;
        if let Some(encoding) = encoding.filter(|_| body.len() >= WORTH_IT)
            && let Some(packed) = Box::pin(service::packed(encoding, &body, &mut share)).await
        {
            body = packed;
            packed_in = Some(encoding);
        }
        share.shrink_to(body.len());
        let told = notes.end(StatusCode::OK.as_u16(), body.len());
        Reply::inference(answer, body, share, json_length, packed_in, told)
    }

    /// What does not depend on more than the path.
    fn get(&self, uri: Uri) -> impl Future<Output = Response> + Send + use<> {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = uri;
        let mut rest = self.rest.clone();
        Box::pin(async move {
            let Ok(response) = rest.call(request).await;
            response
        })
    }

    /// The rest of an answer that is not written at once, known to its connection until it is. What was not written together with
    /// its head is counted with its bytes.
    pub fn outgoing(&self, rest: Bytes, unwritten: &Arc<Unwritten>) -> Outgoing {
        outgoing(rest, Share::new(&self.context.limits.budget), unwritten, &self.context.limits)
    }
}

impl Reply {
    fn inference(
        answer: &Answer,
        body: Vec<u8>,
        share: Share,
        json_length: Option<usize>,
        packed: Option<Encoding>,
        told: Option<Told>,
    ) -> Self {
        let mut head = begin(StatusCode::OK, body.len());
        header(&mut head, "content-type", content_type(json_length).as_bytes());
        header(&mut head, MODEL_VERSION.as_str(), &answer.version.number);
        header(&mut head, ROUTING_REASON.as_str(), answer.reason.label().as_bytes());
        if let Some(length) = json_length {
            count(&mut head, JSON_LENGTH.as_str(), length as u64);
        }
        if let Some(encoding) = packed {
            header(&mut head, "content-encoding", encoding.name().as_bytes());
        }
        put(&mut head, told);
        // What is written at once need not be counted.
        Reply { head, body: if body.len() > TOGETHER { guarded(body, share) } else { body.into() } }
    }

    async fn other(response: Response, notes: Notes, limits: &Limits) -> Self {
        let (parts, body) = response.into_parts();
        // It lies there in one piece.
        let body = Box::pin(to_bytes(body, usize::MAX)).await.unwrap_or_default();
        let mut head = begin(parts.status, body.len());
        for (name, value) in parts.headers.iter().filter(|(name, _)| *name != axum::http::header::CONTENT_LENGTH) {
            header(&mut head, name.as_str(), value.as_bytes());
        }
        put(&mut head, notes.end(parts.status.as_u16(), body.len()));
        if body.len() <= TOGETHER {
            return Reply { head, body };
        }
        let mut share = Share::new(&limits.budget);
        share.add(body.len());
        Reply { head, body: guarded(body, share) }
    }

    /// The bytes of the answer, in two parts of which the second may be empty. `closes`: the connection ends with it.
    pub fn into_bytes(self, closes: bool) -> (Vec<u8>, Bytes) {
        let Reply { mut head, body } = self;
        if closes {
            header(&mut head, "connection", b"close");
        }
        head.extend_from_slice(b"\r\n");
        if body.len() > TOGETHER {
            return (head, body);
        }
        head.extend_from_slice(&body);
        (head, Bytes::new())
    }
}

/// A head with what all have.
fn begin(status: StatusCode, length: usize) -> Vec<u8> {
    let mut head = Vec::with_capacity(256 + length.min(TOGETHER));
    if status == StatusCode::OK {
        head.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        // Writing into memory can't fail.
        let _ = write!(head, "HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or_default());
    }
    count(&mut head, "content-length", length as u64);
    header(&mut head, "date", &date());
    head
}

/// What is told beside the answer.
fn put(head: &mut Vec<u8>, told: Option<Told>) {
    let Some(Told { request_id, server_timing }) = told else { return };
    if let Some(id) = request_id {
        header(head, REQUEST_ID, id.as_bytes());
    }
    if let Some(timing) = server_timing {
        header(head, SERVER_TIMING.as_str(), timing.as_bytes());
    }
}

fn header(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    head.extend_from_slice(name.as_bytes());
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}

fn count(head: &mut Vec<u8>, name: &str, value: u64) {
    head.extend_from_slice(name.as_bytes());
    head.extend_from_slice(b": ");
    number(head, value);
    head.extend_from_slice(b"\r\n");
}
