//! Transport of requests and responses, whichever dialect they are in: bodies, limits, compression, memory.

pub(in crate::api) mod body;
pub(in crate::api) mod codec_pool;
pub(in crate::api) mod compression;
pub(in crate::api) mod grpc;
pub(in crate::api) mod health_only;
pub(in crate::api) mod host_paths;
pub mod http;
pub(in crate::api) mod limits;
pub(in crate::api) mod memory_budget;
pub(in crate::api) mod ports;
pub(in crate::api) mod response_body;
pub(in crate::api) mod wrong_port;
