//! Error responses over HTTP: a JSON object with the message.

use axum::{
    body::Body,
    http::{
        HeaderValue, Method, StatusCode, Uri,
        header::{ACCEPT_ENCODING, ALLOW, CONTENT_TYPE, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::{
    api::{
        headers::HeaderSink,
        text::shown,
        transport::{compression::KNOWN_ENCODINGS, limits::Refusal},
    },
    error::{Code, Error},
};

/// An error response, before it is written.
pub(crate) struct ErrorResponse {
    pub status: StatusCode,
    pub body: Vec<u8>,
    /// Seconds after which the request may be tried again, where it may.
    retry_after: Option<u32>,
    /// True if the response lists the encodings that are known.
    lists_encodings: bool,
}

impl ErrorResponse {
    /// The response to a request that is refused or has failed.
    pub(crate) fn new(refusal: &Refusal) -> Self {
        let status = StatusCode::from_u16(refusal.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let error = &refusal.error;
        // 429 means that it may be tried again, and the error says so; 413 does not.
        let retries = error.code() == Code::ResourceExhausted && status == StatusCode::TOO_MANY_REQUESTS;
        ErrorResponse {
            status,
            body: body(error.message()),
            retry_after: retries.then(|| error.seconds_to_retry()),
            lists_encodings: status == StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }

    /// Adds the headers of the response.
    pub(crate) fn put_headers(&self, sink: &mut impl HeaderSink) {
        sink.put_static(CONTENT_TYPE, "application/json");
        if let Some(seconds) = self.retry_after {
            sink.put_number(RETRY_AFTER, seconds as usize);
        }
        if self.lists_encodings {
            sink.put_static(ACCEPT_ENCODING, KNOWN_ENCODINGS);
        }
    }
}

impl From<ErrorResponse> for Response {
    fn from(error: ErrorResponse) -> Self {
        let mut response = Response::new(Body::empty());
        error.put_headers(response.headers_mut());
        *response.status_mut() = error.status;
        *response.body_mut() = Body::from(error.body);
        response
    }
}

/// The response to a request that is refused or has failed.
pub(in crate::api) fn refused(refusal: &Refusal) -> Response {
    ErrorResponse::new(refusal).into()
}

/// The refusal of a request before it comes to an endpoint.
pub(crate) fn refusal(status: StatusCode, why: String) -> Response {
    ErrorResponse { status, body: body(&why), retry_after: None, lists_encodings: false }.into()
}

/// The refusal of a method where these are allowed, as a list.
pub(in crate::api) fn wrong_method(method: &Method, uri: &Uri, allowed: &'static str) -> Response {
    let why = format!("Method Not Allowed: {} does not take {method}, expected {allowed}", uri.path());
    let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, why);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        refused(&self.into())
    }
}

fn body(message: &str) -> Vec<u8> {
    json!({ "error": shown(message) }).to_string().into_bytes()
}
