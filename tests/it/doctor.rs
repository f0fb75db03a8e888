//! `onnxd doctor`: what it says of this machine, and of machines that lack something or have a GPU.

use serde_json::Value;
use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};
use tempfile::TempDir;

use crate::{
    cli::{ended, text},
    support::{libraries, server::onnxd},
};

/// The command with ports that nobody else has; more options win over these.
fn doctor(options: &[&str]) -> Command {
    let mut command = onnxd();
    command.arg("doctor");
    for protocol in ["http", "grpc", "metrics", "admin"] {
        if !options.contains(&format!("--{protocol}").as_str()) {
            command.arg(format!("--{protocol}")).arg("127.0.0.1:0");
        }
    }
    command.args(options).env_remove("CUDA_VISIBLE_DEVICES").env_remove("CUDA_DEVICE_ORDER");
    command
}

/// The document of a run that ends with this exit code.
fn document(command: &mut Command, code: i32) -> Value {
    let output = ended(command.arg("--json"));
    assert!(output.status.code() == Some(code) && output.stderr.is_empty(), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["ok"], code == 0, "{document}");
    document
}

fn finding<'a>(document: &'a Value, group: &str, name: &str) -> &'a Value {
    let mut findings = document["findings"].as_array().unwrap().iter();
    let found = findings.find(|finding| finding["group"] == group && finding["name"] == name);
    found.unwrap_or_else(|| panic!("no {group} {name} in {document:#}"))
}

#[test]
fn doctor_finds_no_problem_on_this_machine() {
    let document = document(&mut doctor(&[]), 0);
    assert!(document["problems"] == 0 && document["onnxd"] == env!("CARGO_PKG_VERSION"), "{document:#}");
    let facts = |group, name| &finding(&document, group, name)["facts"];
    let cpus = std::thread::available_parallelism().unwrap().get();
    assert_eq!(facts("cpus", "usable")["cpus"], cpus);
    assert!(
        facts("memory", "machine")["bytes"].as_u64().unwrap() > facts("memory", "available")["bytes"].as_u64().unwrap()
    );
    assert!(facts("files", "limit")["hard"].as_u64().is_none_or(|limit| limit > 0), "{document:#}");
    assert!(Path::new(facts("onnxruntime", "library")["path"].as_str().unwrap()).is_file(), "{document:#}");
    assert_eq!(facts("onnxruntime", "version")["version"], "1.31.1");
    assert_eq!(facts("providers", "CPUExecutionProvider")["works"], serde_json::json!(["cpu"]));
    assert!(facts("providers", "device")["providers"].is_array());
    for protocol in ["http", "grpc", "metrics", "admin"] {
        assert_eq!(facts("ports", protocol)["free"], true);
    }

    // The same for people, in groups.
    let Output { status, stdout, stderr } = ended(&mut doctor(&[]));
    let reported = text(&stdout);
    assert!(status.code() == Some(0) && stderr.is_empty(), "{reported}");
    let words = reported.split_whitespace().collect::<Vec<_>>().join(" ");
    for says in [&format!("CPUs ok usable {cpus} "), " ok version 1.31.1 ", " a server would start and serve."] {
        assert!(words.contains(says), "{says:?} in\n{reported}");
    }
}

#[test]
fn doctor_reports_obstacles_to_serving_as_problems() {
    let (folder, occupied) = (TempDir::new().unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let address = occupied.local_addr().unwrap().to_string();
    let problem = |command: &mut Command, group: &str, name: &str, says: &[&str]| {
        let document = document(command, 1);
        assert_eq!(document["problems"], 1, "{document:#}");
        let finding = finding(&document, group, name);
        assert_eq!(finding["level"], "problem");
        let reported = finding["text"].as_str().unwrap();
        assert!(says.iter().all(|says| reported.contains(says)), "{says:?} in {reported}");
    };
    problem(&mut doctor(&["--grpc", &address]), "ports", "grpc", &[&address, "in use", "--grpc HOST:PORT"]);
    // Two of its own on one address, of which each process here has another.
    let [.., high, low] = std::process::id().to_be_bytes();
    let own = TcpListener::bind(format!("127.77.{high}.{low}:0")).unwrap().local_addr().unwrap().to_string();
    problem(&mut doctor(&["--http", &own, "--grpc", &own]), "ports", "grpc", &[&own, "in use"]);

    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let library = |file: &str| {
        let mut command = doctor(&[]);
        command.env("ORT_DYLIB_PATH", path(file));
        command
    };
    problem(&mut library("none"), "onnxruntime", "library", &["ORT_DYLIB_PATH", &path("none"), "not a file"]);
    fs::write(path("file"), "no library").unwrap();
    problem(&mut library("file"), "onnxruntime", "version", &[&path("file"), "can't be used as ONNX Runtime"]);
    let tokens = path("tokens");
    problem(&mut doctor(&["--admin-token-file", &tokens]), "folders", "admin tokens", &[&tokens]);
    let log = folder.path().to_str().unwrap();
    problem(&mut doctor(&["--access-log", log]), "folders", "access log", &[log, "is a folder"]);

    let device = ["openvino can't be had", "ORT_DYLIB_PATH"];
    problem(&mut doctor(&["--device", "openvino"]), "providers", "device", &device);

    // And where the command line or the settings are wrong, it is as with any command.
    let Output { status, stdout, stderr } = ended(&mut doctor(&["--http", "8000"]));
    assert!(status.code() == Some(2) && stdout.is_empty() && text(&stderr).contains("'8000'"), "{stderr:?}");
}

#[test]
fn doctor_reports_limitations_as_warnings() {
    let folder = TempDir::new().unwrap();
    let warning = |options: &[&str], group: &str, name: &str| {
        let document = document(&mut doctor(options), 0);
        let finding = finding(&document, group, name);
        assert!(finding["level"] == "warning" && finding["advice"].is_string(), "{finding}");
    };
    warning(&["--http", "off", "--grpc", "off"], "ports", "http");
    warning(&["--model-memory", "1000000GiB"], "memory", "settings");
    // Below a file no folder can be made; whoever runs this may write everything else.
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
    warning(&["--state-dir", file.join("state").to_str().unwrap()], "folders", "state");
}

/// By libraries that are made here.
#[test]
fn doctor_reports_gpus_with_their_driver() {
    let folder = TempDir::new().unwrap();
    libraries::driver(folder.path());
    let cuda = "int cudaRuntimeGetVersion(int *version) { *version = 13000; return 0; }";
    let cuda = libraries::compile(cuda, folder.path(), "libcudart.so.13");
    let cudnn = "unsigned long cudnnGetVersion(void) { return 91400; }";
    let cudnn = libraries::compile(cudnn, folder.path(), "libcudnn.so.9");
    let with_driver = |visible: Option<&str>| {
        let mut command = doctor(&[]);
        command.env("LD_LIBRARY_PATH", folder.path());
        command.env("LD_PRELOAD", format!("{} {}", cuda.display(), cudnn.display()));
        if let Some(visible) = visible {
            command.env("CUDA_VISIBLE_DEVICES", visible);
        }
        document(&mut command, 0)
    };
    let document = with_driver(None);
    let driver = finding(&document, "gpus", "driver");
    assert!(driver["level"] == "ok" && driver["facts"]["version"] == "580.65.06", "{driver}");
    assert_eq!(driver["facts"]["cuda"], "13.1");
    let first = finding(&document, "gpus", "cuda:0");
    assert_eq!(first["facts"]["uuid"], "GPU-aaaaaaaa-1111");
    assert_eq!(first["facts"]["memory_free"], 29_u64 << 30);
    assert_eq!(first["text"], "Fake \"40\", 29.0 GiB of 40.0 GiB free (GPU-aaaaaaaa-1111)");
    assert_eq!(finding(&document, "gpus", "cuda:1")["facts"]["uuid"], "GPU-bbbbbbbb-2222");
    assert_eq!(finding(&document, "gpus", "CUDA runtime")["facts"]["version"], "13.0");
    assert_eq!(finding(&document, "gpus", "cuDNN")["facts"]["version"], "9.14.0");

    let document = with_driver(Some("1"));
    assert_eq!(finding(&document, "gpus", "cuda:0")["facts"]["uuid"], "GPU-bbbbbbbb-2222");
    let document = with_driver(Some("2"));
    let none = finding(&document, "gpus", "GPU");
    assert!(
        none["level"] == "warning" && none["advice"].as_str().unwrap().contains("CUDA_VISIBLE_DEVICES is '2'"),
        "{none}"
    );
}

/// Memory that the process may have at most is no more than its own limits allow.
#[test]
fn limits_of_the_process_bound_the_memory_of_requests() {
    const LIMIT: u64 = 6 << 30;
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit -v {}; exec \"$0\" doctor --json", LIMIT >> 10)])
        .arg(env!("CARGO_BIN_EXE_onnxd"));
    let document: Value = serde_json::from_slice(&ended(&mut command).stdout).unwrap();
    let facts = |name| &finding(&document, "memory", name)["facts"];
    assert_eq!(
        (&facts("process limit")["bytes"], &facts("process limit")["name"]),
        (&LIMIT.into(), &"RLIMIT_AS".into())
    );
    let machine = facts("machine")["bytes"].as_u64().unwrap();
    let group = facts("control group")["bytes"].as_u64().unwrap_or(u64::MAX);
    assert_eq!(facts("settings")["request_memory"], LIMIT.min(machine).min(group) / 4);
}
