//! Files that would end the server are tried in a child first.

use http::StatusCode;
use serde_json::{Value, json};
use std::{
    fs,
    process::{Command, Stdio},
};
use tempfile::TempDir;

use super::{add_of, children, eventually_without_children, isolation, save};
use crate::support::{
    client::{get, post},
    onnx::{self, Graph, INT64, Tensor, node, value},
    server::{Server, eventually, field, onnxd},
};

/// `y = (x * 0 + the smallest number) mod (x * 0 - 1)`, INT64 [n]: whatever it is given ends the process that runs it.
fn deadly() -> Graph {
    let constant = |name: &str, number: i64| Tensor {
        dims: vec![1],
        data_type: INT64,
        name: name.into(),
        raw_data: number.to_le_bytes().into(),
        ..Tensor::default()
    };
    Graph {
        name: "deadly".into(),
        node: vec![
            node("Mul", &["x", "zero"], &["zeros"]),
            node("Add", &["zeros", "smallest"], &["a"]),
            node("Sub", &["zeros", "one"], &["b"]),
            node("Mod", &["a", "b"], &["y"]),
        ],
        initializer: vec![constant("zero", 0), constant("smallest", i64::MIN), constant("one", 1)],
        input: vec![value("x", INT64, &["n"])],
        output: vec![value("y", INT64, &["n"])],
    }
}

/// `y = x + the smallest number mod (2 * size of x - 1)`, INT64 [n]: without elements it ends the process that runs it.
fn deadly_without_elements() -> Graph {
    let Graph { initializer: mut constants, .. } = deadly();
    constants[0].raw_data = 2_i64.to_le_bytes().into();
    Graph {
        node: vec![
            node("Size", &["x"], &["size"]),
            node("Mul", &["size", "zero"], &["doubled"]),
            node("Sub", &["doubled", "one"], &["divisor"]),
            node("Mod", &["smallest", "divisor"], &["rest"]),
            node("Add", &["x", "rest"], &["y"]),
        ],
        initializer: constants,
        ..deadly()
    }
}

#[tokio::test]
async fn file_that_ends_the_process_without_elements_serves_all_other_requests() {
    let (repository, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    save(deadly_without_elements(), repository.path(), "size", "isolation = \"none\"\n");
    let options = ["--state-dir", state.path().to_str().unwrap()];
    // The second time the trial is remembered.
    for _ in 0..2 {
        let server = Server::start_with(repository.path(), &options);
        let ask = async |data: Vec<i64>| {
            let input = json!({ "name": "x", "datatype": "INT64", "shape": [data.len()], "data": data });
            post(server.http, "/v2/models/size/infer", json!({ "inputs": [input] }).to_string()).await
        };
        let refused = ask(vec![]).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        assert!(refused.error().contains("is empty") && refused.error().contains("SIGFPE"), "{}", refused.error());
        assert_eq!(ask(vec![7]).await.json()["outputs"][0]["data"], json!([7]));
        let trials = fs::read_to_string(state.path().join("trials")).unwrap();
        assert_eq!(trials.lines().count(), 2, "a line that says what it is, and one trial: {trials}");
    }
}

#[tokio::test]
async fn file_that_ends_the_process_fails_and_the_others_serve() {
    let repository = TempDir::new().unwrap();
    save(onnx::add(1.0), repository.path(), "add", "");
    save(deadly(), repository.path(), "deadly", "");
    save(deadly(), repository.path(), "tried", "isolation = \"none\"\n");
    save(deadly(), repository.path(), "served", "isolation = \"process\"\n");
    let server = Server::start(repository.path());
    for model in ["deadly", "tried"] {
        let status = get(server.admin, &format!("/admin/v1/models/{model}")).await.json();
        assert_eq!(status["versions"][0]["state"], "FAILED", "{status}");
        let problem = status["versions"][0]["problem"].as_str().unwrap();
        assert!(problem.contains("SIGFPE") && problem.contains("isolation = \"process\""), "{problem}");
    }
    // It is asked for, though made-up inputs end it.
    assert!(isolation(&server, "served").await.is_some());
    assert_eq!(add_of(&server, 1.0).await.status, StatusCode::OK);
}

#[tokio::test]
async fn passed_file_is_not_tried_again() {
    let (repository, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    save(onnx::add(1.0), repository.path(), "add", "");
    let options = ["--state-dir", state.path().to_str().unwrap()];
    drop(Server::start_with(repository.path(), &options));
    let trials = || fs::read_to_string(state.path().join("trials")).unwrap().lines().count();
    assert_eq!(trials(), 2, "a line that says what it is, and one trial");
    drop(Server::start_with(repository.path(), &options));
    assert_eq!(trials(), 2);
    save(onnx::add(2.0), repository.path(), "add", "");
    drop(Server::start_with(repository.path(), &options));
    assert_eq!(trials(), 3);
    save(onnx::add(3.0), repository.path(), "add", "");
    drop(Server::start_with(repository.path(), &[&options[..], &["--trial", "off"]].concat()));
    assert_eq!(trials(), 3);
}

/// The first version of a model in the admin API.
async fn version(server: &Server, model: &str) -> Value {
    get(server.admin, &format!("/admin/v1/models/{model}")).await.json()["versions"][0].clone()
}

#[tokio::test]
async fn failed_trial_holds_until_a_call_or_new_files() {
    let (repository, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    save(deadly(), repository.path(), "deadly", "isolation = \"none\"\n");
    let start = || Server::start_with(repository.path(), &["--state-dir", state.path().to_str().unwrap()]);
    let is_remembered =
        |problem: &str| problem.contains("an earlier trial") && problem.contains("`onnxd load deadly 1`");
    let server = start();
    let first = version(&server, "deadly").await["problem"].as_str().unwrap().to_owned();
    assert!(first.contains("was ended by SIGFPE") && !is_remembered(&first), "{first}");
    drop(server);

    let server = start();
    let status = version(&server, "deadly").await;
    let again = status["problem"].as_str().unwrap();
    assert_eq!(status["state"], "FAILED");
    assert!(again.starts_with(&first) && is_remembered(again), "{again}");
    let load = || onnxd().args(["load", "deadly", "1"]).env("ONNXD_SERVER", server.admin.to_string()).output().unwrap();
    let loaded = load();
    let said = String::from_utf8(loaded.stderr).unwrap();
    assert!(!loaded.status.success() && said.contains("SIGFPE") && !is_remembered(&said), "{said}");
    drop(server);

    // The call has forgotten the result for good, and its trial had the same.
    let server = start();
    assert!(is_remembered(version(&server, "deadly").await["problem"].as_str().unwrap()));
    save(onnx::add(1.0), repository.path(), "deadly", "isolation = \"none\"\n");
    eventually("other files serve", async || version(&server, "deadly").await["state"] == "READY").await;
}

#[tokio::test]
async fn trial_killed_from_outside_is_not_remembered() {
    let (repository, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    save(onnx::add(1.0), repository.path(), "add", "");
    let options = ["--state-dir", state.path().to_str().unwrap()];
    let server = Server::start_with(repository.path(), &options);
    let slow = save(onnx::slower(5000), repository.path(), "slow", "");
    eventually("its trial has begun", async || !children(server.id()).is_empty()).await;
    for child in children(server.id()) {
        assert!(Command::new("kill").args(["-KILL", &child.to_string()]).status().unwrap().success());
    }
    server.wait_for_log(|line| field(line, "error").contains("SIGKILL"));
    eventually("it is tried again", async || version(&server, "slow").await["state"] == "READY").await;
    let trials = fs::read_to_string(state.path().join("trials")).unwrap();
    assert!(!trials.contains("failed"), "{slow:?}: {trials}");
}

#[test]
fn check_survives_a_file_that_ends_the_process() {
    let repository = TempDir::new().unwrap();
    save(onnx::add(1.0), repository.path(), "add", "");
    save(deadly(), repository.path(), "deadly", "isolation = \"none\"\n");
    let checked = onnxd().arg("check").arg(repository.path()).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8(checked.stdout).unwrap();
    assert_eq!(checked.status.code(), Some(1), "{said}");
    assert!(said.contains("SIGFPE") && said.contains("add"), "{said}");
}

#[test]
fn workers_are_not_started_by_hand() {
    for arguments in [&["worker"][..], &["worker", "library", "label", "0", "0"]] {
        let output = onnxd().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
        assert!(!output.status.success());
    }
}

#[tokio::test]
async fn trials_leave_no_child_process() {
    let repository = TempDir::new().unwrap();
    for number in 1..=5u8 {
        save(onnx::add(number.into()), repository.path(), &format!("add{number}"), "");
    }
    save(deadly(), repository.path(), "deadly", "isolation = \"none\"\n");
    let server = Server::start(repository.path());
    eventually_without_children(server.id()).await;
    save(onnx::add(6.0), repository.path(), "add6", "");
    server.wait_for_log(|line| line["message"] == "ready" && line["model"] == "add6");
    eventually_without_children(server.id()).await;
}
