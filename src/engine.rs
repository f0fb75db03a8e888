//! ONNX Runtime: the only room that knows `ort`.
//!
//! An [`Engine`] is the loaded library with its one environment; an [`Instance`] is a session with the buffers that batches are
//! stacked in, and the [`Model`] that the batcher runs. Every call blocks: the batcher decides which thread makes it, and when.

mod batch_buffer;
mod batch_run;
mod batch_values;
mod concatenate;
mod cpu;
mod cuda;
mod element;
mod environment;
mod explain;
mod failure_cause;
mod instance;
mod library_version;
mod log;
mod model;
mod model_file;
mod provider;
mod provider_setup;
mod provider_trial;
mod run_control;
mod run_error;
mod session;
mod session_thread;
mod signature;
mod status;
mod strings;
mod target;
mod tensorrt;
#[cfg(test)]
pub(crate) mod tests;
mod value;
mod weights;
mod worker;

pub use batch_run::BatchRun;
pub use cuda::{buckets, gpus};
pub use environment::Engine;
pub use instance::Instance;
pub use library_version::version_of;
pub use model::Model;
pub use model_file::{ModelFile, NeedsElements, RowAnalysis, RowProof};
pub use run_control::{RunControl, WatchdogWaker, is_stop_requested, stop_reason};
pub use target::{Provider, Target};
pub use weights::weights_files;
pub use worker::{Death, Launch, WorkerFailure, serve as serve_worker};
