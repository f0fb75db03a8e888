//! Tests through the doors that users use: a real `onnxd` process, real sockets, real ONNX Runtime, real models.

mod batching;
mod support;
