//! Answers to requests for what a port does not have: they name the port that does.

use axum::{
    body::Body,
    http::{HeaderMap, Request, StatusCode, header::CONTENT_TYPE},
    response::Response,
};

use crate::api::{
    Ports,
    dialect::{oip_grpc, oip_http},
};
use crate::error::{Code, Error};

/// The answer where there is nothing at a path of the port of `here`, in the form of the protocol that was spoken.
pub(in crate::api) fn nothing_there<B>(ports: &Ports, here: &'static str, request: &Request<B>) -> Response {
    let path = request.uri().path();
    if let Some(refused) = crate::api::transport::grpc::refused_form(request.headers()) {
        return refused.map(Body::new);
    }
    let is_grpc = is_grpc(request.headers());
    let advice = ports.advice(here, path, is_grpc);
    if is_grpc {
        let message = match &*advice {
            "" => format!("there is no method {path}; reflection lists those that there are"),
            _ => format!("there is no method {path}{advice}"),
        };
        return oip_grpc::refused(Error::new(Code::Unimplemented, message)).map(Body::new);
    }
    oip_http::refusal(StatusCode::NOT_FOUND, format!("Not Found: there is nothing at {path}{advice}"))
}

/// True if a request comes over gRPC, in any of its forms.
pub(in crate::api) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}
