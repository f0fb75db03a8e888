//! What is told of a request beside its answer: to its client, who gave it an id or asks for its times, and to the access log.
//!
//! Most requests want none of it: then there is nothing to keep, and no clock is read.

mod access_log;
mod ids;
mod record;

pub use access_log::{AccessLog, Lines};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use std::{
    fmt::{self, Write as _},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::cut;
use crate::{
    batcher::Timing,
    error::{Code, Error},
    traffic::Reason,
};

/// The id of a request, from the client and back to it, whichever protocol it speaks.
pub(super) const REQUEST_ID: &str = "x-request-id";

/// Where the client's trace is told (W3C Trace Context).
pub(super) const TRACEPARENT: &str = "traceparent";

/// With it a client asks for the times of its request.
pub(super) const ASKS_FOR_TIMING: &str = "onnxd-server-timing";

/// The times of a request (W3C Server Timing).
pub(super) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Bytes of a name that a client gives, as far as they are kept.
const LONGEST_NAME: usize = 256;

/// The protocol that a request came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http,
    Grpc,
}

/// What a request's headers say that is no business of its inference.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Beside<'a> {
    pub request_id: Option<&'a [u8]>,
    pub asks_for_timing: Option<&'a [u8]>,
    pub traceparent: Option<&'a [u8]>,
}

impl<'a> Beside<'a> {
    /// As headers tell it; of several of one name the first. Most have none of them, and to hash three names takes longer than
    /// to look at all that there are.
    pub(super) fn read(headers: &'a HeaderMap) -> Self {
        let mut beside = Beside::default();
        for (name, value) in headers {
            let field = match name.as_str() {
                REQUEST_ID => &mut beside.request_id,
                ASKS_FOR_TIMING => &mut beside.asks_for_timing,
                TRACEPARENT => &mut beside.traceparent,
                _ => continue,
            };
            field.get_or_insert(value.as_bytes());
        }
        beside
    }
}

/// What is kept of a request, if anything, until it is answered. Dropped before, it was cancelled.
pub(super) struct Notes(Option<Box<Noted>>);

/// What is kept of a request.
struct Noted {
    log: Option<Arc<AccessLog>>,
    protocol: Protocol,
    client: SocketAddr,
    arrived: Instant,
    request_id: Option<Box<str>>,
    trace_id: Option<Box<str>>,
    asks_for_timing: bool,
    model: String,
    /// The id in the message.
    message_id: String,
    bytes: usize,
    routed: Option<(u64, Reason)>,
    timing: Option<Timing>,
    failed: Option<Error>,
    /// Once it has been found out: not everybody wants to know.
    took: Option<Duration>,
}

/// What the answer tells beside itself.
pub(super) struct Told {
    pub request_id: Option<Box<str>>,
    pub server_timing: Option<String>,
}

impl Notes {
    /// Nothing.
    pub(super) fn none() -> Self {
        Notes(None)
    }

    /// What there is to keep of a request that came at `arrived`.
    pub(super) fn begin(
        log: Option<&Arc<AccessLog>>,
        protocol: Protocol,
        client: SocketAddr,
        beside: Beside<'_>,
        arrived: Instant,
    ) -> Self {
        let given = beside.request_id.and_then(ids::request_id);
        let asks_for_timing = beside.asks_for_timing.is_some_and(is_yes);
        if log.is_none() && given.is_none() && !asks_for_timing {
            return Notes(None);
        }
        let request_id = match (given, log) {
            (Some(given), _) => Some(given.into()),
            (None, Some(_)) => Some(ids::new_request_id()),
            (None, None) => None,
        };
        Notes(Some(Box::new(Noted {
            log: log.cloned(),
            protocol,
            client,
            arrived,
            request_id,
            trace_id: log.and(beside.traceparent).and_then(ids::trace_id).map(Into::into),
            asks_for_timing,
            model: String::new(),
            message_id: String::new(),
            bytes: 0,
            routed: None,
            timing: None,
            failed: None,
            took: None,
        })))
    }

    /// What of it the access log wants.
    fn logged(&mut self) -> Option<&mut Noted> {
        self.0.as_deref_mut().filter(|noted| noted.log.is_some())
    }

    /// It is for this model, and its body has so many bytes.
    pub(super) fn asks(&mut self, model: &str, bytes: usize) {
        if let Some(noted) = self.logged() {
            noted.model = cut(model, LONGEST_NAME);
            noted.bytes = bytes;
        }
    }

    /// Its message has this id.
    pub(super) fn named(&mut self, id: &str) {
        if let Some(noted) = self.logged() {
            noted.message_id = cut(id, LONGEST_NAME);
        }
    }

    /// This version is to answer it, for this reason.
    pub(super) fn routed(&mut self, version: u64, reason: Reason) {
        if let Some(noted) = self.logged() {
            noted.routed = Some((version, reason));
        }
    }

    /// It has run.
    pub(super) fn ran(&mut self, timing: Timing) {
        if let Some(noted) = &mut self.0 {
            noted.timing = Some(timing);
        }
    }

    /// It has failed.
    pub(super) fn failed(&mut self, error: &Error) {
        if let Some(noted) = self.logged() {
            noted.failed = Some(error.clone());
        }
    }

    /// It is answered, with this status of its protocol and a body of so many bytes.
    pub(super) fn end(self, status: u16, bytes: usize) -> Option<Told> {
        let mut noted = self.0?;
        noted.end(status, bytes);
        let took = noted.asks_for_timing.then(|| noted.took());
        let server_timing = took.map(|took| server_timing(noted.timing.as_ref(), took));
        Some(Told { request_id: noted.request_id.take(), server_timing })
    }
}

impl Noted {
    /// Has the line written, if there is to be one.
    fn end(&mut self, status: u16, bytes: usize) {
        let log = self.log.take();
        if let Some(log) = log
            && let Some(left_out) = log.takes(self.failed.as_ref().map(Error::code))
        {
            let end = record::End { status, bytes, took: self.took(), left_out };
            log.note(&|line| record::write(line, self, &end));
        }
    }

    /// From when it came until its answer was there.
    fn took(&mut self) -> Duration {
        let arrived = self.arrived;
        *self.took.get_or_insert_with(|| arrived.elapsed())
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        if self.log.is_none() {
            // It has ended, or nobody wants to know.
            return;
        }
        self.failed = Some(Error::new(Code::Cancelled, "the client went before it was answered"));
        let status = match self.protocol {
            Protocol::Http => Code::Cancelled.http(),
            Protocol::Grpc => grpc_status(Code::Cancelled),
        };
        self.end(status, 0);
    }
}

/// The status of a code over gRPC, as lines have it.
pub(super) fn grpc_status(code: Code) -> u16 {
    u16::try_from(code.grpc()).unwrap_or_default()
}

impl Told {
    /// Puts it into the headers of an answer.
    pub(super) fn put(self, headers: &mut HeaderMap) {
        self.put_request_id(headers);
        if let Some(timing) = self.timing() {
            headers.insert(SERVER_TIMING, timing);
        }
    }

    pub(super) fn put_request_id(&self, headers: &mut HeaderMap) {
        if let Some(id) = self.request_id.as_deref().and_then(|id| HeaderValue::from_str(id).ok()) {
            headers.insert(HeaderName::from_static(REQUEST_ID), id);
        }
    }

    pub(super) fn timing(&self) -> Option<HeaderValue> {
        self.server_timing.as_deref().and_then(|timing| HeaderValue::from_str(timing).ok())
    }
}

fn is_yes(value: &[u8]) -> bool {
    value == b"1" || value.eq_ignore_ascii_case(b"true")
}

/// Where the time of a request went, as the header has it: milliseconds.
fn server_timing(timing: Option<&Timing>, took: Duration) -> String {
    let mut text = String::new();
    if let Some(Timing { queue, input, run, output, batch_rows, .. }) = timing {
        for (phase, duration) in [("queue", queue), ("input", input), ("run", run), ("output", output)] {
            // Writing into memory can't fail.
            let _ = write!(text, "{phase};dur={}, ", Milliseconds(*duration));
        }
        let _ = write!(text, "batch-size;desc=\"{batch_rows}\", ");
    }
    let _ = write!(text, "total;dur={}", Milliseconds(took));
    text
}

struct Milliseconds(Duration);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let microseconds = self.0.as_micros();
        write!(f, "{}.{:03}", microseconds / 1000, microseconds % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_a_header() {
        let timing = Timing {
            queue: Duration::from_micros(12),
            input: Duration::from_nanos(999),
            run: Duration::from_micros(1_234_567),
            output: Duration::ZERO,
            rows: 3,
            batch_rows: 64,
        };
        assert_eq!(
            server_timing(Some(&timing), Duration::from_millis(1300)),
            "queue;dur=0.012, input;dur=0.000, run;dur=1234.567, output;dur=0.000, batch-size;desc=\"64\", total;dur=1300.000"
        );
        assert_eq!(server_timing(None, Duration::from_micros(7)), "total;dur=0.007");
    }
}
