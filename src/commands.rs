//! The commands of `onnxd`: each reads its options, does its work, and prints the result. `serve` starts [`crate::server`].

pub mod admin;
pub mod check;
pub mod cli;
pub mod completions;
pub mod config;
pub mod doctor;
pub mod health;
pub mod http_client;
pub mod infer;
mod output;
pub mod runtime;
mod serve;

pub use completions::{completions, man};
pub use serve::serve;
