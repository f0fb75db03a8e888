//! Dialects: the ways of protocols to say an inference. A dialect turns bytes into a request and an answer into bytes, and
//! does nothing else.

mod input;
mod interface;
pub(crate) mod oip_grpc;
pub(crate) mod oip_http;
mod parameters;

pub(crate) use interface::{Decoded, Dialect, Encoded, Undecoded};
pub(in crate::api) use parameters::read_priority;
