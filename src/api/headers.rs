//! Names of the headers and metadata that requests and responses carry, and the ways to write those of a response.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;

/// The version that answered, over HTTP, and as metadata over gRPC.
pub(crate) const MODEL_VERSION: HeaderName = HeaderName::from_static("onnxd-model-version");

/// Why it was that version.
pub(crate) const ROUTING_REASON: HeaderName = HeaderName::from_static("onnxd-routing-reason");

/// Length of the JSON in a body with binary tensors behind it. Header names compare without case.
pub(crate) const JSON_LENGTH: HeaderName = HeaderName::from_static(JSON_LENGTH_NAME);
pub(crate) const JSON_LENGTH_NAME: &str = "inference-header-content-length";

/// The priority level of a request that gives none as a parameter.
pub(crate) const PRIORITY: HeaderName = HeaderName::from_static(PRIORITY_NAME);
pub(crate) const PRIORITY_NAME: &str = "onnxd-priority";

/// The id of a request, from the client and back to it, whichever protocol it speaks.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static(REQUEST_ID_NAME);
pub(crate) const REQUEST_ID_NAME: &str = "x-request-id";

/// The client's trace (W3C Trace Context).
pub(crate) const TRACEPARENT_NAME: &str = "traceparent";

/// With it a client asks for the times of its request.
pub(crate) const TIMING_WANTED_NAME: &str = "onnxd-server-timing";

/// The times of a request (W3C Server Timing).
pub(crate) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Takes the headers of a response: a map of headers, or the bytes of a head. Values are visible characters of ASCII.
pub(crate) trait HeaderSink {
    /// Adds a header whose value is always the same text.
    fn put_static(&mut self, name: HeaderName, value: &'static str);

    /// Adds a header whose value is a number.
    fn put_number(&mut self, name: HeaderName, value: usize);

    /// Adds a header whose value is text of a request.
    fn put_text(&mut self, name: HeaderName, value: &str);

    /// Adds a header whose value is shared bytes.
    fn put_shared(&mut self, name: HeaderName, value: &Bytes);
}

impl HeaderSink for HeaderMap {
    fn put_static(&mut self, name: HeaderName, value: &'static str) {
        self.insert(name, HeaderValue::from_static(value));
    }

    fn put_number(&mut self, name: HeaderName, value: usize) {
        self.insert(name, HeaderValue::from(value));
    }

    fn put_text(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.insert(name, value);
        }
    }

    fn put_shared(&mut self, name: HeaderName, value: &Bytes) {
        if let Ok(value) = HeaderValue::from_maybe_shared(value.clone()) {
            self.insert(name, value);
        }
    }
}
