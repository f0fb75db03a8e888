//! Inference server for ONNX models.
//!
//! `ARCHITECTURE.md` is the map: the layers, what lives where, and the way of a request. `tests/it/layers.rs` holds the layers,
//! file by file.

pub mod clock;
pub mod config;
pub mod error;
pub mod json;
pub mod metrics;
pub mod per_thread;
pub mod tensor;
pub mod terminal;
pub mod traffic;
pub mod url;

pub mod batcher;
pub mod engine;
pub mod host;
pub mod ort_library;

pub mod router;

pub mod loader;
pub mod registry;
pub mod repository;
pub mod rollout;
pub mod state;

pub mod api;

pub mod commands;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
pub mod server;
