//! Models in worker processes: a request that ends its worker costs nobody else anything, and answers are the same.

mod deaths;
mod leaks;
mod remembered;
mod same_answers;
mod trials;

use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

use crate::support::{
    client::{Answer, get, post},
    onnx::{self, Graph, INT64, node, value},
    server::{Server, eventually, onnxd},
};

/// `y = a mod b`, INT64 [n]: the smallest number by -1 ends the process that runs it.
fn modulo() -> Graph {
    Graph {
        name: "modulo".into(),
        node: vec![node("Mod", &["a", "b"], &["y"])],
        initializer: vec![],
        input: ["a", "b"].map(|name| value(name, INT64, &["n"])).into(),
        output: vec![value("y", INT64, &["n"])],
    }
}

/// Saves a model as version 1 of a repository, with a configuration where that is not empty.
fn save(graph: Graph, repository: &Path, model: &str, config: &str) -> PathBuf {
    let folder = repository.join(model);
    let path = folder.join("1/model.onnx");
    graph.save(&path);
    if !config.is_empty() {
        fs::write(folder.join("config.toml"), config).unwrap();
    }
    path
}

/// A repository with `modulo`, which runs in a worker since its graph shows what it can do, and `add`, which does not.
fn killer_and_bystander(repository: &Path) {
    save(modulo(), repository, "modulo", "");
    save(onnx::add(1.0), repository, "add", "");
}

/// Asks `modulo`.
async fn modulo_of(server: &Server, a: i64, b: i64) -> Answer {
    let input = |name: &str, number: i64| json!({ "name": name, "datatype": "INT64", "shape": [1], "data": [number] });
    let body = json!({ "inputs": [input("a", a), input("b", b)] });
    post(server.http, "/v2/models/modulo/infer", body.to_string()).await
}

/// The request that ends the process.
async fn kill(server: &Server) -> Answer {
    modulo_of(server, i64::MIN, -1).await
}

async fn add_of(server: &Server, x: f32) -> Answer {
    let body = json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 2], "data": [x, x] }] });
    post(server.http, "/v2/models/add/infer", body.to_string()).await
}

/// The processes that a process has started and that have not been waited for.
fn children(parent: u32) -> Vec<u32> {
    let mut children = Vec::new();
    for task in fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten() {
        let listed = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children.extend(listed.split_whitespace().map(|id| id.parse::<u32>().unwrap()));
    }
    children
}

async fn eventually_without_children(parent: u32) {
    eventually("no child is left", async || children(parent).is_empty()).await;
}

/// Output of a command that asks a server's admin API.
fn printed(server: &Server, arguments: &[&str]) -> String {
    let output = onnxd().args(arguments).env("ONNXD_SERVER", server.admin.to_string()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn models_show_which_versions_run_in_workers_and_why() {
    let repository = TempDir::new().unwrap();
    let name = "classifier";
    save(modulo(), repository.path(), name, "");
    save(onnx::add(1.0), repository.path(), "add", "[weights]\n1 = 95.5\n[aliases]\nstable = 1\n");
    let server = Server::start(repository.path());
    let shown = printed(&server, &["models"]);
    let column = shown.lines().next().unwrap().find("ISOLATION").unwrap();
    let cells: Vec<_> = shown.lines().skip(1).map(|line| line[column..].split_whitespace().next().unwrap()).collect();
    assert_eq!(cells, ["none", "process"], "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 120), "{shown}");
    let details = printed(&server, &["models", name]);
    assert!(details.contains(&format!("\n\n{name} version 1 runs in a worker process: ")), "{details}");
    assert!(details.contains("'Mod'") && !shown.contains("'Mod'"), "{details}");
    let versions = printed(&server, &["models", "--json"]);
    assert!(versions.contains("\"isolation\":\"none\"") && versions.contains("\"isolation_reason\":\""), "{versions}");
}

/// The `isolation` in a model's metadata, if there is one.
async fn isolation(server: &Server, model: &str) -> Option<String> {
    let metadata = get(server.http, &format!("/v2/models/{model}")).await.json();
    metadata["properties"]["isolation"].as_str().map(str::to_owned)
}
