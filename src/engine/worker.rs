//! Worker processes: ONNX Runtime sessions outside the server's process, so that a crash in a kernel ends a worker only.
//!
//! A worker is the same executable, started as `onnxd worker`. It serves one session over a socket; tensors lie in memory that
//! both processes map. [`client::Worker`] is the server's end, [`serve`] the worker's. The server does not trust what a worker
//! sends: every length, shape and offset is checked.

mod client;
mod death;
mod death_watch;
mod failure;
mod load;
mod memory;
mod messages;
mod process;
mod regions;
mod run;
mod server;
mod setup;
mod stream;

pub use death::Death;
pub use failure::WorkerFailure;
pub use process::Launch;
pub use server::serve;

pub(super) use client::Worker;
