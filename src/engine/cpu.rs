//! Runs on the CPU: the allocator that ONNX Runtime gets, and bindings that are kept from run to run.

pub(crate) mod allocator;
pub(crate) mod binding;
pub(crate) mod cached_binding;
