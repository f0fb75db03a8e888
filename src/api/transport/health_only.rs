//! Connections beyond the limit answer health checks and metadata, and refuse everything else.

use axum::http::{HeaderValue, Method, Request, StatusCode, header::RETRY_AFTER};

use super::response_body::{Answer, other};
use crate::api::dialect::{oip_grpc, oip_http};
use crate::error::{Code, Error};

/// The refusal of a request that is no health check; `None` where it is one. `why` names the limit.
pub fn refuse_unless_health<B>(request: &Request<B>, why: &str) -> Option<Answer> {
    if *request.method() == Method::GET
        || *request.method() == Method::HEAD
        || oip_grpc::is_health(request.uri().path())
    {
        return None;
    }
    let message = format!("{why}; this connection answers health checks only; try again later");
    if oip_grpc::names_method(request.uri().path()) {
        return Some(oip_grpc::refused(Error::new(Code::ResourceExhausted, message)));
    }
    let mut refusal = oip_http::refusal(StatusCode::SERVICE_UNAVAILABLE, message);
    refusal.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    Some(other(refusal))
}
