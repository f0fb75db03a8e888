//! Tests through the doors that users use: a real `onnxd` process, real sockets, real ONNX Runtime, real models.
#![allow(unreachable_pub, reason = "the crate is a test: nothing is public")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod access;
mod admin;
mod admission;
mod alignment;
mod bad_models;
mod batching;
mod check;
mod cli;
mod config;
mod control;
mod datatypes;
mod deadlines;
mod deploy;
mod devices;
mod doctor;
mod floors;
mod gpu_wheel;
mod grpc;
mod hazards;
mod health;
mod host;
mod http;
mod infer;
mod isolation;
mod links;
mod memory;
mod metrics;
mod monitoring;
mod overload;
mod packaging;
mod readme;
mod real_models;
mod reference;
mod repository;
mod runs;
mod runtime;
mod shutdown;
mod support;
mod swap;
mod telemetry;
mod traffic;
mod transport;
mod verification;
