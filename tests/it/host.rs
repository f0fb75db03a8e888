//! Conditions of the host: logs that nobody reads, signals, clocks that are wrong, and no threads left.

mod clock;
mod log;
mod threads;

use std::{path::Path, process::Command};
use tempfile::TempDir;

use crate::support::{
    client::{float_bytes, floats, infer, inference, raw_request},
    libraries, onnx,
    server::{Server, onnxd},
};

/// A repository with the model `add`, which adds 1.
fn repository() -> TempDir {
    let repository = TempDir::new().unwrap();
    onnx::add(1.0).save(&repository.path().join("add/1/model.onnx"));
    repository
}

/// The command on a host that these variables describe (`host.c`); the library that makes it is in the folder.
fn on_host(folder: &Path, variables: &[(&str, &str)]) -> Command {
    let library = libraries::compile(include_str!("support/host.c"), folder, "libhost.so");
    let mut command = onnxd();
    command.env("LD_PRELOAD", library).envs(variables.iter().copied());
    command
}

async fn assert_infers(server: &Server) {
    let request = raw_request("add", "x", "FP32", &[1, 2], float_bytes(&[1.0, 2.0]));
    assert_eq!(floats(&infer(&inference(server).await, request).await.unwrap()), [2.0, 3.0]);
}
