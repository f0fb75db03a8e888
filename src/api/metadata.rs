//! Health and metadata of the Open Inference Protocol.

pub(super) mod grpc;
mod host_paths;
pub(super) mod http;
mod properties;

pub use properties::SERVER_VERSION;
