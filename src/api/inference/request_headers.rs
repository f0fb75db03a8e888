//! The headers of a request as the pipeline reads them.

use axum::http::{HeaderMap, HeaderValue};

use crate::api::{headers::PRIORITY, request_log::TraceHeaders};

/// The headers of a request, or its metadata over gRPC.
pub(crate) trait RequestHeaders {
    /// The headers that the request log reads.
    fn trace(&self) -> TraceHeaders<'_>;

    /// The priority level.
    fn priority(&self) -> Option<&[u8]>;

    /// The value of any header; of several of one name the first.
    fn value(&self, name: &str) -> Option<&[u8]>;
}

impl RequestHeaders for HeaderMap {
    fn trace(&self) -> TraceHeaders<'_> {
        TraceHeaders::read(self)
    }

    fn priority(&self) -> Option<&[u8]> {
        self.get(PRIORITY).map(HeaderValue::as_bytes)
    }

    fn value(&self, name: &str) -> Option<&[u8]> {
        self.get(name).map(HeaderValue::as_bytes)
    }
}
