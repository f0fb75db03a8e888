//! Runs on NVIDIA GPUs: page-locked memory, copies to and from the device, CUDA graphs.

pub(crate) mod device_run;
pub(crate) mod driver;
pub(crate) mod graph_request;
pub(crate) mod graph_sizes;
pub(crate) mod graphs;
pub(crate) mod pinned_memory;
pub(crate) mod predicted_shapes;
pub(crate) mod staging_buffer;
