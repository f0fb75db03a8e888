//! Connections beyond the limit answer health checks and metadata, and refuse everything else.

use axum::http::{HeaderValue, Method, Request, StatusCode, header::RETRY_AFTER};

use super::{
    grpc::{is_health, names_method, refused},
    http,
    response_body::{HttpResponse, other},
};
use crate::error::{Code, Error};

/// The refusal of a request that is no health check; `None` where it is one. `why` names the limit.
pub fn refuse_unless_health<B>(request: &Request<B>, why: &str) -> Option<HttpResponse> {
    if *request.method() == Method::GET || *request.method() == Method::HEAD || is_health(request.uri().path()) {
        return None;
    }
    let message = format!("{why}; this connection answers health checks only; try again later");
    if names_method(request.uri().path()) {
        return Some(refused(Error::new(Code::ResourceExhausted, message)));
    }
    let mut refusal = http::refusal(StatusCode::SERVICE_UNAVAILABLE, message);
    refusal.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    Some(other(refusal))
}
