//! The protocols. Wire formats live only here: decode, submit, encode.

pub mod admin;
mod context;
pub(crate) mod dialect;
pub(crate) mod headers;
mod health;
pub(crate) mod inference;
mod metadata;
mod metrics;
pub mod proto;
pub(crate) mod request_log;
mod service;
mod text;
pub(crate) mod transport;

pub use context::{Context, ServerPhase};
pub use metadata::SERVER_VERSION;
pub use metrics::ReadGauges;
pub use request_log::{AccessLog, Lines};
pub use service::Service;
pub use transport::{
    AnswerBody, Budget, CodecPool, HttpResponse, Limits, PendingResponses, Ports, refuse_unless_health,
};
