//! The inference pipeline: the way of every request, whichever dialect and transport bring it.
//!
//! decode -> submit -> wait -> complete (encode, compress) -> respond (count, log). Everything between two waits is a plain
//! function, so that its variables are no part of the future. A dialect turns bytes into a request and an answer into bytes; a
//! [`Responder`] turns the outcome into a response of its transport; an endpoint receives the message too, and goes the
//! whole way with it.

mod endpoint;
mod finish;
mod oip_grpc_endpoint;
mod oip_http_endpoint;
mod request_headers;
mod respond;
mod stages;

pub(crate) use finish::finish;
pub(super) use oip_grpc_endpoint::infer as infer_grpc;
pub(super) use oip_http_endpoint::infer as infer_http;
pub(crate) use oip_http_endpoint::{http_status, put_answer_headers};
pub(crate) use request_headers::RequestHeaders;
pub(crate) use respond::{Completed, Responder};
pub(crate) use stages::{QueuedInference, decode, submit};
