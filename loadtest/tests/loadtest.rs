//! The load generator as one uses it: the real binary against a real `onnxd` and against its own echoes.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

use serde_json::Value;
use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

/// A process that is killed when the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn loadtest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap()
}

/// Report of a run, as its JSON gives it.
fn measured(arguments: &[&str]) -> Value {
    measured_for("200ms", arguments)
}

fn measured_for(duration: &str, arguments: &[&str]) -> Value {
    let output = loadtest(&[arguments, &["--json", "--duration", duration, "--warm-up", "50ms"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// `onnxd`, which a build of the workspace puts beside this package's binary.
fn onnxd() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_BIN_EXE_loadtest")).with_file_name("onnxd");
    if path.exists() {
        return Some(path);
    }
    assert!(
        env::var_os("ONNXD_TEST_REQUIRE").is_none(),
        "{} is missing: run cargo test for the workspace",
        path.display()
    );
    eprintln!("skipped: {} is missing", path.display());
    None
}

/// A server of the sample models, with its addresses over HTTP, gRPC and for metrics.
fn serve(onnxd: &Path) -> (Running, [String; 3]) {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let mut command = Command::new(onnxd);
    command.arg("serve").arg(models).args(["--log-format", "json", "--admin", "off"]);
    command.args(["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let running = Running(child);
    let mut addresses = Vec::new();
    for line in lines {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if line["message"] == "listening" {
            addresses.push(line["address"].as_str().unwrap().to_owned());
        }
        if line["message"] == "ready" && line["target"] == "onnxd::server" {
            break;
        }
    }
    (running, addresses.try_into().unwrap())
}

/// Echoes of a target: their first line names the address.
fn echo(target: &str) -> (Running, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    let mut child = command.args(["echo", target]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (Running(child), line.split_whitespace().nth(1).unwrap().to_owned())
}

#[test]
fn load_test_measures_every_protocol_and_loop() {
    let Some(onnxd) = onnxd() else { return };
    let (_server, [http, grpc, metrics]) = serve(&onnxd);
    let metrics = format!("http://{metrics}/metrics");
    for protocol in [format!("grpc://{grpc}"), format!("http://{http}"), format!("http+json://{http}")] {
        let target = format!("{protocol}/simple?rows=2");
        for load in [["--clients", "1,4"], ["--rate", "300"]] {
            let run = ["run", &target, load[0], load[1], "--metrics", &metrics, "--limit", "10s"];
            let mut report = measured(&run);
            // On a busy machine the short run may end before the first answer, or before the server's metrics are read.
            let says_nothing = |level: &Value| level["requests"] == 0 || level["mean_batch"].is_null();
            if report["levels"].as_array().unwrap().iter().any(says_nothing) {
                report = measured_for("10s", &run);
            }
            for level in report["levels"].as_array().unwrap() {
                let at = |pointer: &str| level.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN);
                assert!(at("/requests") > 0.0, "{target}: {level:#}");
                assert!(level["errors"].as_object().unwrap().is_empty(), "{target}: {level:#}");
                assert!(at("/latency_ms/p50") <= at("/latency_ms/p99_99"), "{target}: {level:#}");
                assert!(at("/server_cpu_us_per_request") >= 0.0 && at("/mean_batch") >= 2.0, "{target}: {level:#}");
            }
        }
    }
}

#[test]
fn target_mix_writes_an_html_report() {
    let Some(onnxd) = onnxd() else { return };
    let (_server, [http, grpc, _]) = serve(&onnxd);
    let report = env::temp_dir().join(format!("loadtest-{}.html", std::process::id()));
    let mix = [format!("grpc://{grpc}/simple?weight=3"), format!("http://{http}/purchase?version=3")];
    let run = ["run", &mix[0], &mix[1], "--clients", "2", "--html", report.to_str().unwrap()];
    measured(&run);
    let html = fs::read_to_string(&report).unwrap();
    fs::remove_file(&report).unwrap();
    assert!(html.contains("<svg") && html.contains("/simple") && html.contains("/purchase"), "{html}");
}

#[test]
fn comparison_reports_ratios_with_intervals() {
    let Some(onnxd) = onnxd() else { return };
    let (_server, [_, grpc, _]) = serve(&onnxd);
    let target = format!("grpc://{grpc}/simple");
    let (_echo, address) = echo(&target);
    let other = format!("grpc://{address}/simple");
    let report = measured(&["compare", &target, &other, "--clients", "2", "--rounds", "3"]);
    let level = &report["levels"][0];
    assert_eq!(level["rounds"].as_array().unwrap().len(), 3);
    for ratio in level["ratios"].as_array().unwrap() {
        let at = |key: &str| ratio[key].as_f64().unwrap();
        assert!(at("low") <= at("ratio") && at("ratio") <= at("high"), "{ratio}");
    }
}

#[test]
fn wrong_target_reports_the_cause() {
    let Some(onnxd) = onnxd() else { return };
    let (_server, [http, grpc, _]) = serve(&onnxd);
    for (target, says) in [
        (format!("grpc://{grpc}/nothing"), "'nothing' is not found"),
        (format!("http://{http}/nothing"), "'nothing' is not found"),
        ("grpc://127.0.0.1:1/simple".into(), "127.0.0.1:1"),
        (format!("ftp://{grpc}/simple"), "ftp"),
        (format!("grpc://{grpc}"), "model"),
    ] {
        let output = loadtest(&["run", &target, "--duration", "100ms"]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(says), "{target}: {told}");
    }
}

#[test]
fn deadline_is_sent_and_bounds_goodput() {
    let Some(onnxd) = onnxd() else { return };
    let (_server, [http, grpc, _]) = serve(&onnxd);
    for protocol in [format!("grpc://{grpc}"), format!("http://{http}"), format!("http+json://{http}")] {
        let target = format!("{protocol}/simple");
        let level = &measured(&["run", &target, "--deadline", "1h"])["levels"][0];
        assert_eq!(level["goodput_per_second"], level["requests_per_second"], "{level:#}");
        // One that no server can keep.
        let output = loadtest(&["run", &target, "--deadline", "1us", "--duration", "100ms"]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains("deadline"), "{target}: {told}");
    }
}

#[test]
fn raw_command_runs_a_model_without_a_server() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/simple/1/model.onnx");
    // The second is over before the first run.
    for duration in ["50ms", "1us"] {
        let output = loadtest(&["raw", model.to_str().unwrap(), "--rows", "1,4", "--duration", duration, "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
        let figures = figures.as_array().unwrap();
        assert_eq!(figures.len(), 2, "{figures:?}");
        assert!(figures.iter().all(|figure| figure["rows_per_second"].as_f64().unwrap() > 0.0), "{figures:?}");
    }
}
