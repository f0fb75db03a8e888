//! Runs on the CPU: the allocator that ONNX Runtime gets, and bindings that are cached from run to run.

pub(super) mod allocator;
pub(super) mod binding;
pub(super) mod cached_binding;
