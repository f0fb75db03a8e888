//! The gRPC status of an error, and the response to a call that failed.

use axum::http::{HeaderName, HeaderValue};
use tonic::Status;

use crate::{
    api::{
        text::shown,
        transport::{
            compression::KNOWN_ENCODINGS,
            response_body::{HttpResponse, other},
        },
    },
    error::{Code, Error},
};

pub(super) const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// The status of an error.
pub(in crate::api) fn status(error: Error) -> Status {
    Status::new(tonic::Code::from_i32(error.code().grpc()), shown(error.message()))
}

/// The response to a call that failed.
pub(in crate::api) fn refused(error: Error) -> HttpResponse {
    let unimplemented = error.code() == Code::Unimplemented;
    let mut response = other(status(error).into_http());
    if unimplemented {
        // Where it was for the encoding, the protocol wants to have them listed.
        response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static(KNOWN_ENCODINGS));
    }
    response
}
