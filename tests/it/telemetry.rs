//! ONNX Runtime reports nothing to its maker.

use std::fs;
use tempfile::TempDir;

use crate::support::{
    client::{float_bytes, infer, inference, raw_request},
    onnx,
    server::{Server, onnxd},
};
use onnxd::ort_library::fetch;

/// Where it reports, it keeps an identifier of the device and what it has not sent yet in `~/.cache/Microsoft`.
#[tokio::test(flavor = "multi_thread")]
async fn telemetry_writes_nothing_to_the_home_folder() {
    let (repository, home) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    onnx::add(1.0).save(&repository.path().join("add/1/model.onnx"));
    let mut command = onnxd();
    command.env("HOME", home.path()).env_remove("XDG_CACHE_HOME").env_remove("ORT_DISABLE_TELEMETRY");
    // The library is still found where the build put it.
    command.env("ONNXD_CACHE_DIR", fetch::cache_directory().unwrap());
    let mut server = Server::start_command(command, repository.path(), &[]);
    let request = raw_request("add", "x", "FP32", &[1, 2], float_bytes(&[1.0, 2.0]));
    infer(&inference(&server).await, request).await.unwrap();
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    let left: Vec<_> = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "written into the home directory: {left:?}");
}
