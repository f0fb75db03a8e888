//! gRPC without its messages: forms and paths of calls, unary calls from the body to the trailers, small bodies for tonic.

mod form;
mod path;
mod small_body;
mod status;
mod unary;

pub(in crate::api) use form::{is_grpc, not_grpc, refused_form};
pub(in crate::api) use path::{is_health, method, names_method, unknown_method};
pub(in crate::api) use small_body::{MAX_SMALL_BODY_BYTES, read_small_bodies};
pub(in crate::api) use status::{refused, status};
pub(in crate::api) use unary::{
    MESSAGE_PREFIX_BYTES, decode_message, message_response, receive_message, timeout, unary,
};
