//! Runs on NVIDIA GPUs: page-locked memory, copies to and from the device, CUDA graphs.

pub(super) mod device_run;
mod driver;
pub(super) mod graph_capture;
mod graph_sizes;
mod graphs;
pub(super) mod pinned_memory;
pub(super) mod predicted_shapes;
mod staging_buffer;

pub use driver::gpus;
pub use graph_sizes::buckets;
