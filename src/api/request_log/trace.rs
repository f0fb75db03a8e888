//! Trace headers of a request, and what its response says of its id and its times.

use axum::http::{HeaderMap, HeaderValue};
use std::{
    fmt::{self, Write as _},
    time::Duration,
};

use crate::{
    api::headers::{HeaderSink, REQUEST_ID, REQUEST_ID_NAME, SERVER_TIMING, TIMING_WANTED_NAME, TRACEPARENT_NAME},
    batcher::Timing,
};

/// The headers of a request that are no business of its inference.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TraceHeaders<'a> {
    pub request_id: Option<&'a [u8]>,
    pub timing_wanted: Option<&'a [u8]>,
    pub traceparent: Option<&'a [u8]>,
}

impl<'a> TraceHeaders<'a> {
    /// Reads them from a map; of several of one name the first. Most requests have none of them, and to hash three names takes
    /// longer than to look at all headers that there are.
    pub(crate) fn read(headers: &'a HeaderMap) -> Self {
        let mut trace = TraceHeaders::default();
        for (name, value) in headers {
            let field = match name.as_str() {
                REQUEST_ID_NAME => &mut trace.request_id,
                TIMING_WANTED_NAME => &mut trace.timing_wanted,
                TRACEPARENT_NAME => &mut trace.traceparent,
                _ => continue,
            };
            field.get_or_insert(value.as_bytes());
        }
        trace
    }

    /// True if the client asks for the times of its request.
    pub(super) fn wants_timing(&self) -> bool {
        self.timing_wanted.is_some_and(|value| value == b"1" || value.eq_ignore_ascii_case(b"true"))
    }
}

/// The id and the times of a request, for its response.
pub(crate) struct ResponseTrace {
    pub(super) request_id: Option<Box<str>>,
    pub(super) server_timing: Option<String>,
}

impl ResponseTrace {
    /// Adds both to the headers of a response.
    pub(crate) fn put(&self, headers: &mut impl HeaderSink) {
        self.put_request_id(headers);
        if let Some(timing) = &self.server_timing {
            headers.put_text(SERVER_TIMING, timing);
        }
    }

    /// Adds the id to the headers of a response.
    pub(crate) fn put_request_id(&self, headers: &mut impl HeaderSink) {
        if let Some(id) = &self.request_id {
            headers.put_text(REQUEST_ID, id);
        }
    }

    /// The times as the value of a header.
    pub(crate) fn server_timing(&self) -> Option<HeaderValue> {
        self.server_timing.as_deref().and_then(|timing| HeaderValue::from_str(timing).ok())
    }
}

/// The phases of a request as `server-timing` lists them, in milliseconds.
pub(super) fn server_timing(timing: Option<&Timing>, took: Duration) -> String {
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
    fn server_timing_lists_phases_in_milliseconds() {
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
