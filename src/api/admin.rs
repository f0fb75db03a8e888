//! The admin API: the same messages over gRPC and, as JSON, over HTTP, on a port of its own.
//!
//! Each call stands in `calls` once; `grpc` and `http` decode and encode. No token is needed for what shows nothing of the
//! models' traffic and changes nothing: health, reflection, and the description of the API.

mod auth;
mod backend;
mod calls;
mod convert;
mod event_stream;
mod grpc;
mod http_request;
mod http_response;
mod openapi;
mod router;
mod routes;
mod strict_json;
mod tokens;
mod watch;

pub use auth::Callers;
pub(super) use router::routes;
pub use tokens::Tokens;
