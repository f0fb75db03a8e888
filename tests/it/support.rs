//! Code that the tests share.

pub mod client;
pub mod embedded;
pub mod h1;
pub mod h2;
pub mod libraries;
pub mod load;
pub mod onnx;
pub mod prometheus;
pub mod python;
pub mod server;
pub mod sources;
