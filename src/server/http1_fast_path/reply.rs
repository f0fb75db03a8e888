//! Responses as the bytes of HTTP/1.1.

use axum::{
    body::to_bytes,
    http::{
        HeaderName, StatusCode,
        header::{CONNECTION, CONTENT_LENGTH, DATE},
    },
    response::Response,
};
use bytes::Bytes;
use std::io::Write;

use crate::api::{
    Limits,
    headers::HeaderSink,
    inference::{Completed, Responder, http_status, put_answer_headers},
    request_log::ResponseTrace,
    transport::{
        Refusal, Share, guarded,
        http::{ErrorResponse, date},
    },
};

/// A response.
pub(super) struct Reply {
    /// The whole head, except for the part that the connection adds.
    head: HeadWriter,
    body: Bytes,
}

/// A body up to this size is written together with its head.
const MAX_JOINED_BODY_BYTES: usize = 64 << 10;

/// Makes responses as the bytes of HTTP/1.1.
pub(super) struct Http1Responder;

impl Responder for Http1Responder {
    type Response = Reply;

    fn answer(&self, completed: Completed, _limits: &Limits) -> Result<Reply, Refusal> {
        let mut head = HeadWriter::new(StatusCode::OK, completed.data.len());
        put_answer_headers(&completed, &mut head);
        let Completed { data, mut share, .. } = completed;
        share.shrink_to(data.len());
        // Bytes that are written at once need not be counted.
        let body = if data.len() > MAX_JOINED_BODY_BYTES { guarded(data, share) } else { data.into() };
        Ok(Reply { head, body })
    }

    fn refuse(&self, refusal: Refusal) -> Reply {
        let error = ErrorResponse::new(&refusal);
        let mut head = HeadWriter::new(error.status, error.body.len());
        error.put_headers(&mut head);
        Reply { head, body: error.body.into() }
    }

    fn status(refused: Option<&Refusal>) -> u16 {
        http_status(refused)
    }

    fn body_bytes(reply: &Reply) -> usize {
        reply.body.len()
    }

    fn add_trace(reply: &mut Reply, trace: ResponseTrace) {
        trace.put(&mut reply.head);
    }
}

impl Reply {
    /// The reply with a response of axum's router.
    pub(super) async fn of(response: Response, limits: &Limits) -> Self {
        let (parts, body) = response.into_parts();
        // The body is in memory, in one piece.
        let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
        let mut head = HeadWriter::new(parts.status, body.len());
        for (name, value) in parts.headers.iter().filter(|(name, _)| *name != CONTENT_LENGTH) {
            head.put(name, value.as_bytes());
        }
        if body.len() <= MAX_JOINED_BODY_BYTES {
            return Reply { head, body };
        }
        let mut share = Share::new(&limits.budget);
        share.add(body.len());
        Reply { head, body: guarded(body, share) }
    }

    /// The bytes of the response, in two parts of which the second may be empty. `closes`: the connection ends with the response.
    pub(super) fn into_bytes(self, closes: bool) -> (Vec<u8>, Bytes) {
        let Reply { mut head, body } = self;
        if closes {
            head.put_static(CONNECTION, "close");
        }
        let HeadWriter(mut head) = head;
        head.extend_from_slice(b"\r\n");
        if body.len() > MAX_JOINED_BODY_BYTES {
            return (head, body);
        }
        head.extend_from_slice(&body);
        (head, Bytes::new())
    }
}

/// Writer of a head.
struct HeadWriter(Vec<u8>);

impl HeadWriter {
    /// A head with the headers of every response.
    fn new(status: StatusCode, body_bytes: usize) -> Self {
        let mut head = Vec::with_capacity(256 + body_bytes.min(MAX_JOINED_BODY_BYTES));
        if status == StatusCode::OK {
            head.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        } else {
            // Writing into memory can't fail.
            let _ = write!(head, "HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or_default());
        }
        let mut head = HeadWriter(head);
        head.put_number(CONTENT_LENGTH, body_bytes);
        head.put(&DATE, &date());
        head
    }

    fn put(&mut self, name: &HeaderName, value: &[u8]) {
        for part in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
            self.0.extend_from_slice(part);
        }
    }
}

impl HeaderSink for HeadWriter {
    fn put_static(&mut self, name: HeaderName, value: &'static str) {
        self.put(&name, value.as_bytes());
    }

    fn put_number(&mut self, name: HeaderName, value: usize) {
        self.put(&name, itoa::Buffer::new().format(value).as_bytes());
    }

    fn put_text(&mut self, name: HeaderName, value: &str) {
        self.put(&name, value.as_bytes());
    }

    fn put_shared(&mut self, name: HeaderName, value: &Bytes) {
        self.put(&name, value);
    }
}
