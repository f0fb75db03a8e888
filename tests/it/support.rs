//! What the tests have in common.

pub mod client;
pub mod onnx;
pub mod python;
pub mod server;
