//! Dialects: each decodes the bytes of one protocol into a request, and encodes an answer into its bytes.

pub mod oip_grpc;
pub mod oip_http;
pub(in crate::api) mod parameters;
