//! Tests through the doors that users use: a real `onnxd` process, real sockets, real ONNX Runtime, real models.
#![allow(unreachable_pub, reason = "the crate is a test: nothing is public")]

mod batching;
mod floors;
mod overload;
mod reference;
mod shutdown;
mod support;
mod swap;
