//! Devices that models run on: the default, missing devices, and the reports on them. Tests that need a GPU are not here.

use serde_json::{Value, json};
use std::{fs, path::Path};
use tempfile::TempDir;

use crate::{
    cli::{ended, text},
    support::{
        client::{get, metric, post},
        libraries, onnx,
        server::{Server, eventually, field, onnxd},
    },
};

/// A repository with a model for each of these, under the name given, with this `config.toml`.
fn repository(models: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, config) in models {
        onnx::add(1.0).save(&folder.path().join(name).join("1/model.onnx"));
        configure(folder.path(), name, config);
    }
    folder
}

fn configure(root: &Path, model: &str, config: &str) {
    fs::write(root.join(model).join("config.toml"), config).unwrap();
}

/// Asks a model for `[1, 2] + 1`.
async fn ask(server: &Server, model: &str) -> Result<Value, String> {
    let body = json!({ "inputs": [{ "name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2] }] });
    let answer = post(server.http, &format!("/v2/models/{model}/infer"), body.to_string()).await;
    if answer.status == 200 { Ok(answer.json()["outputs"][0]["data"].clone()) } else { Err(answer.error()) }
}

/// The one version of a model, as the admin API has it.
async fn version(server: &Server, model: &str) -> Value {
    let answer = get(server.admin, &format!("/admin/v1/models/{model}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["versions"][0].clone()
}

/// The reason why a version is FAILED.
async fn failure(server: &Server, model: &str) -> String {
    let version = version(server, model).await;
    assert_eq!(version["state"], "FAILED", "{version}");
    version["problem"].as_str().unwrap().to_owned()
}

const GET_A_GPU_BUILD: &str = "run `onnxd runtime install --cuda`";

#[tokio::test(flavor = "multi_thread")]
async fn unavailable_device_fails_its_model_alone() {
    let repository = repository(&[
        ("plain", ""),
        ("chosen", "device = \"cpu\""),
        ("cuda", "device = \"cuda\"\ncuda_graphs = true\n[provider_options]\nuse_tf32 = true"),
        ("first", "device = \"cuda:0\""),
        ("tensorrt", "device = \"tensorrt\"\n[provider_options]\ntrt_fp16_enable = true\ngpu_mem_limit = 1073741824"),
        ("openvino", "device = \"openvino\"\n[provider_options]\ndevice_type = \"CPU\""),
    ]);
    let server = Server::start(repository.path());
    for model in ["plain", "chosen"] {
        assert_eq!(ask(&server, model).await, Ok(json!([2.0, 3.0])));
        assert_eq!(version(&server, model).await["devices"], json!(["cpu"]));
        let metadata = get(server.http, &format!("/v2/models/{model}")).await.json();
        assert_eq!(metadata["properties"]["device"], "cpu");
    }
    for (model, lacks, instead) in [
        ("cuda", "a build without CUDA (", GET_A_GPU_BUILD),
        ("first", "a build without CUDA (", GET_A_GPU_BUILD),
        ("tensorrt", "a build without TensorRT (", GET_A_GPU_BUILD),
        (
            "openvino",
            "a build without OpenVINO (",
            "set ORT_DYLIB_PATH to the library of an ONNX Runtime 1.31 that has it",
        ),
    ] {
        let why = failure(&server, model).await;
        assert!(why.contains(lacks) && why.contains(instead) && why.contains("libonnxruntime"), "{model}: {why}");
        let public = ask(&server, model).await.unwrap_err();
        assert!(public.contains("it failed to load") && !public.contains("libonnxruntime"), "{public}");
        assert_eq!(version(&server, model).await["devices"], json!([]));
        let reported = |line: &Value| line["level"] == "ERROR" && line["model"] == model;
        assert!(field(&server.wait_for_log(reported), "error").contains(lacks));
        assert_eq!(server.count_log(reported), 1);
    }
    assert_eq!(metric(&server, "onnxd_device_instances", &["device=\"cpu\""]).await, 2.0);
    assert_eq!(metric(&server, "onnxd_device_fallback_versions", &[]).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn default_device_comes_from_the_server_setting() {
    let repository = repository(&[("plain", ""), ("chosen", "device = \"cpu\"\ninstances = 3")]);
    let mut command = onnxd();
    command.env("ONNXD_DEVICE", "cuda");
    let server = Server::start_command(command, repository.path(), &[]);
    assert!(failure(&server, "plain").await.contains(GET_A_GPU_BUILD));
    assert_eq!(ask(&server, "chosen").await, Ok(json!([2.0, 3.0])));
    assert_eq!(metric(&server, "onnxd_device_instances", &["device=\"cpu\""]).await, 3.0);
}

/// Where nothing is asked for and nothing is amiss, nothing is said.
#[tokio::test(flavor = "multi_thread")]
async fn machine_without_gpus_logs_no_warning() {
    let repository = repository(&[("one", ""), ("two", "device = \"auto\"\nprovider_options.gpu_mem_limit = 1000000")]);
    let server = Server::start_with(repository.path(), &["--device", "auto"]);
    for model in ["one", "two"] {
        assert_eq!(ask(&server, model).await, Ok(json!([2.0, 3.0])));
    }
    if !Path::new("/dev/nvidiactl").exists() {
        assert_eq!(server.count_log(|line| line["level"] == "WARN" || line["level"] == "ERROR"), 0);
    }
}

/// The log reports once to somebody who has GPUs why nothing runs on them. CUDA's part of the driver is not loaded for that.
#[tokio::test(flavor = "multi_thread")]
async fn unused_gpus_are_logged_once() {
    let repository =
        repository(&[("one", ""), ("two", ""), ("three", "device = \"auto\""), ("four", "device = \"cpu\"")]);
    let folder = TempDir::new().unwrap();
    libraries::driver(folder.path());
    let cuda = "void abort(void); __attribute__((constructor)) static void loaded(void) { abort(); }";
    libraries::compile(cuda, folder.path(), "libcuda.so.1");
    let mut command = onnxd();
    command.env("LD_LIBRARY_PATH", folder.path()).env_remove("CUDA_VISIBLE_DEVICES").env_remove("CUDA_DEVICE_ORDER");
    let server = Server::start_command(command, repository.path(), &[]);
    for model in ["one", "two", "three", "four"] {
        assert_eq!(ask(&server, model).await, Ok(json!([2.0, 3.0])));
    }
    let is_it = |line: &Value| {
        let reason = field(line, "reason");
        line["level"] == "WARN" && reason.contains(r#"Fake "40", Fake "80""#) && reason.contains(GET_A_GPU_BUILD)
    };
    assert_eq!(server.count_log(is_it), 1);
    assert_eq!(server.count_log(|line| line["level"] == "WARN"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn device_change_reloads_the_version() {
    let repository = repository(&[("add", "")]);
    let server = Server::start(repository.path());
    assert_eq!(version(&server, "add").await["generation"], 1);

    configure(repository.path(), "add", "device = \"cuda\"");
    eventually("the reload fails", async || !version(&server, "add").await["problem"].is_null()).await;
    let kept = version(&server, "add").await;
    let problem = kept["problem"].as_str().unwrap();
    assert!(problem.starts_with("the last reload failed: ") && problem.contains(GET_A_GPU_BUILD), "{kept}");
    assert_eq!((&kept["state"], &kept["generation"]), (&json!("READY"), &json!(1)));
    assert_eq!(ask(&server, "add").await, Ok(json!([2.0, 3.0])));

    configure(repository.path(), "add", "device = \"cpu\"");
    eventually("it is loaded anew", async || version(&server, "add").await["generation"] != 1).await;
    assert!(version(&server, "add").await["problem"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn unsupported_device_options_are_reported_with_their_place() {
    let wrong = "device = \"cuda\"\n[provider_options]\ngpu_mem_limt = 1\ndevice_id = 1\n\
                 do_copy_in_default_stream = false";
    let repository = repository(&[("wrong", wrong), ("right", "")]);
    let server = Server::start(repository.path());
    let model = get(server.admin, "/admin/v1/models/wrong").await.json();
    let why = model["problem"].as_str().unwrap();
    for part in [
        "wrong/config.toml:3:1: provider_options: unknown option 'gpu_mem_limt' of device \"cuda\"; did you mean 'gpu_mem_limit'?",
        "wrong/config.toml:4:1: provider_options: 'device_id' can't be given: name the GPU with device = \"cuda:N\"",
        "wrong/config.toml:5:1: provider_options: 'do_copy_in_default_stream' can't be off: ONNX Runtime then copies beside",
    ] {
        assert!(why.contains(part), "{why}");
    }
    assert_eq!(ask(&server, "right").await, Ok(json!([2.0, 3.0])));
}

#[test]
fn check_reports_the_device() {
    let repository = repository(&[("plain", ""), ("chosen", "device = \"cpu\"")]);
    let path = repository.path().to_str().unwrap();
    let output = ended(onnxd().args(["check", path]));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output.stdout).matches("\n  device      cpu\n").count(), 2, "{output:?}");

    let output = ended(onnxd().args(["check", path, "--device", "cuda"]));
    assert_eq!(output.status.code(), Some(1));
    let out = text(&output.stdout);
    assert!(out.contains("plain version 1: WOULD NOT SERVE") && out.contains(GET_A_GPU_BUILD), "{out}");
    assert!(out.contains("chosen version 1: would serve"), "{out}");

    let output = ended(onnxd().args(["check", path, "--device", "cudda"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("did you mean \"cuda\"?"), "{output:?}");
}
