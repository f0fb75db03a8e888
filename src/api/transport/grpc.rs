//! gRPC without its messages: unary calls from the body to the trailers, and small bodies for tonic.

pub(in crate::api) mod small_body;
pub(in crate::api) mod unary;

pub(in crate::api) use unary::{not_grpc, refused_form};
