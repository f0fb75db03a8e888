//! An inference server for ONNX models.
//!
//! # Layout
//!
//! A file imports only from floors below its own; on one floor only along the arrows. A test holds it.
//!
//! ```text
//! 5  main, cli, check, doctor, health, library, server, infer, admin -> client   composition: knows everyone, known by no one
//! 4  api: grpc, http, admin, metrics   the protocols: decode, call one function, encode
//! 3  registry -> repository, desired   control: what should be loaded; files, clocks, slow things
//! 2  router                            data: one immutable routing table in one ArcSwap
//! 1  batcher -> engine -> crash, gpu, machine, runtime   queue and policy; ONNX Runtime; what the process may use
//! 0  tensor, error, config, json, metrics, printable, traffic   words; no sockets, no threads, no files
//! ```
//!
//! `ARCHITECTURE.md` has the whole map.

pub mod error;

pub mod config;
pub mod json;
pub mod metrics;
pub mod per_thread;
pub mod printable;
pub mod tensor;
pub mod traffic;

pub mod batcher;
pub mod crash;
pub mod engine;
pub mod gpu;
pub mod machine;
pub mod runtime;

pub mod router;

pub mod desired;
pub mod registry;
pub mod repository;

pub mod api;

pub mod admin;
pub mod check;
pub mod cli;
pub mod client;
pub mod doctor;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
pub mod health;
pub mod infer;
pub mod library;
pub mod server;
