//! Answers to requests for what a port does not have: they name the port that does.

use axum::{
    body::Body,
    http::{Request, StatusCode},
    response::Response,
};

use super::{
    grpc::{is_grpc, refused, refused_form},
    http::refusal,
    ports::Ports,
};
use crate::error::{Code, Error};

/// The answer where there is nothing at a path of the port of `here`, in the form of the protocol that was spoken.
pub(in crate::api) fn nothing_there<B>(ports: &Ports, here: &'static str, request: &Request<B>) -> Response {
    let path = request.uri().path();
    if let Some(refused) = refused_form(request.headers()) {
        return refused.map(Body::new);
    }
    let is_grpc = is_grpc(request.headers());
    let advice = ports.advice(here, path, is_grpc);
    if is_grpc {
        let message = match &*advice {
            "" => format!("there is no method {path}; reflection lists those that there are"),
            _ => format!("there is no method {path}{advice}"),
        };
        return refused(Error::new(Code::Unimplemented, message)).map(Body::new);
    }
    refusal(StatusCode::NOT_FOUND, format!("Not Found: there is nothing at {path}{advice}"))
}
