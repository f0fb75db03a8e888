//! What the tests have in common.

pub mod client;
pub mod h1;
pub mod h2;
pub mod libraries;
pub mod load;
pub mod onnx;
pub mod prometheus;
pub mod python;
pub mod server;
