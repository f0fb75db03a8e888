//! The admin API: the same messages over gRPC and, as JSON, over HTTP, on a port of its own.
//!
//! `calls` has each call once; `grpc`, `http_request` and `http_response` decode and encode. Health, reflection and the
//! description of the API need no token.

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
