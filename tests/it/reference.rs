//! Answers are those of ONNX Runtime in Python, and clients that people already have get them: scripts of `tests/python`.

use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

use crate::support::{
    client::metric,
    onnx::{self, FLOAT, Graph, INT64, Node, STRING, Tensor, ValueInfo, floats, node, value},
    python,
    server::Server,
};

/// Settings of a model whose batches wait until they are full, for any time that a test may take.
const FULL_BATCHES: &str = "max_batch_size = 64\nmax_queue_delay = \"10m\"\n";

/// Names that an address can't hold as they are; the script has them too.
const ODD_NAMES: [&str; 2] = ["my model+1", "50%2B ä?#&=;:@"];

/// Serves a repository and runs a script against it: what it printed, and the server.
fn run(script: &str, repository: &Path) -> Option<(String, Server)> {
    let server = Server::start(repository);
    let (grpc, http) = (server.grpc.to_string(), server.http.to_string());
    let repository = repository.to_str().unwrap();
    let arguments = ["--grpc", &grpc, "--http", &http, "--repository", repository];
    let printed = python::run(script, &format!("{script}.py"), &arguments)?;
    Some((printed, server))
}

/// The sample models and a multilayer perceptron.
fn repository() -> TempDir {
    let repository = TempDir::new().unwrap();
    for model in ["simple", "purchase", "shopper"] {
        copy(&sample(model), &repository.path().join(model));
    }
    onnx::mlp(&[32, 64, 64, 2]).save(&repository.path().join("mlp/1/model.onnx"));
    repository
}

fn sample(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(model)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_bit_equal_to_onnx_runtime() {
    let repository = repository();
    let Some((asked, server)) = run("bit_equal", repository.path()) else {
        return;
    };
    // Every request was its own batch, which is what equality is promised for.
    let asked: f64 = asked.trim().parse().unwrap();
    assert_eq!(metric(&server, "onnxd_batch_rows_count", &[]).await, asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_clients_get_their_own_answers() {
    let repository = repository();
    for model in ["simple", "purchase", "shopper", "mlp"] {
        let full = repository.path().join(format!("{model}-full"));
        copy(&repository.path().join(model), &full);
        fs::write(full.join("config.toml"), FULL_BATCHES).unwrap();
    }
    let Some((_, server)) = run("concurrent_clients", repository.path()) else {
        return;
    };
    for model in ["simple", "purchase", "shopper", "mlp"] {
        let label = format!("model=\"{model}-full\"");
        let rows = metric(&server, "onnxd_rows_total", &[&label]).await;
        let batches = metric(&server, "onnxd_batch_rows_count", &[&label]).await;
        assert!(batches > 0.0);
        assert_eq!(rows, batches * 64.0, "{model}");
    }
}

#[test]
fn tritonclient_calls_get_their_answers() {
    let repository = repository();
    for name in ODD_NAMES {
        copy(&sample("simple"), &repository.path().join(name));
    }
    run("client_surface", repository.path());
}

#[test]
fn tritonclient_raises_errors_that_help() {
    run("client_errors", repository().path());
}

#[test]
fn tritonclient_deadlines_are_kept() {
    let repository = repository();
    onnx::slow().save(&repository.path().join("slow/1/model.onnx"));
    run("deadlines", repository.path());
}

#[test]
fn triton_examples_run() {
    run("triton_examples", repository().path());
}

/// Models with what is rare. The script knows them by name.
fn unusual_models() -> Vec<(&'static str, Graph)> {
    const HALF: i32 = 10;
    const BFLOAT16: i32 = 16;
    let pair = ["batch", "2"];
    let graph = |node: Vec<Node>, initializer: Vec<Tensor>, input: Vec<ValueInfo>, output: ValueInfo| Graph {
        name: "unusual".into(),
        node,
        initializer,
        input,
        output: vec![output],
    };
    let cast = |from, to, kind: i32| node("Cast", &[from], &[to]).int("to", kind.into());
    let scaled = || {
        graph(
            vec![node("Mul", &["x", "scale"], &["y"])],
            vec![floats("scale", &[1], &[10.0])],
            // Both an input and an initializer: an input that has a default.
            vec![value("x", FLOAT, &pair), value("scale", FLOAT, &["1"])],
            value("y", FLOAT, &pair),
        )
    };
    vec![
        (
            "halves",
            graph(
                vec![node("Mul", &["x", "x"], &["square"]), node("Add", &["square", "x"], &["y"])],
                vec![],
                vec![value("x", HALF, &["batch", "4"])],
                value("y", HALF, &["batch", "4"]),
            ),
        ),
        (
            "bfloat16",
            graph(
                vec![cast("x", "wide", FLOAT), node("Add", &["wide", "number"], &["sum"]), cast("sum", "y", BFLOAT16)],
                vec![floats("number", &[1], &[1.5])],
                vec![value("x", BFLOAT16, &["batch", "8"])],
                value("y", BFLOAT16, &["batch", "8"]),
            ),
        ),
        ("strings", onnx::identity(STRING, &pair)),
        (
            "461",
            graph(
                vec![node("Sub", &["gpu_0/data_0", "serving_default_input_2:0"], &["StatefulPartitionedCall:0/out.y"])],
                vec![],
                ["gpu_0/data_0", "serving_default_input_2:0"].map(|name| value(name, FLOAT, &pair)).into(),
                value("StatefulPartitionedCall:0/out.y", FLOAT, &pair),
            ),
        ),
        (
            "a.b:c",
            graph(
                vec![node("Neg", &["461"], &["462"])],
                vec![],
                vec![value("461", FLOAT, &pair)],
                value("462", FLOAT, &pair),
            ),
        ),
        (
            "non_zero",
            graph(
                vec![node("NonZero", &["x"], &["y"])],
                vec![],
                vec![value("x", FLOAT, &["batch", "5"])],
                value("y", INT64, &["2", "found"]),
            ),
        ),
        (
            "misdeclared",
            graph(
                vec![node("Reshape", &["x", "shape"], &["y"])],
                vec![],
                vec![value("x", FLOAT, &["batch", "4"]), value("shape", INT64, &["axes"])],
                value("y", FLOAT, &["1", "n"]),
            ),
        ),
        ("fixed", onnx::identity(FLOAT, &["3", "2"])),
        ("scalar", onnx::identity(FLOAT, &[])),
        ("optional", scaled()),
        ("optional-joined", scaled()),
    ]
}

#[test]
fn unusual_models_answer_as_in_python() {
    let repository = TempDir::new().unwrap();
    for (name, graph) in unusual_models() {
        graph.save(&repository.path().join(name).join("1/model.onnx"));
    }
    let joined = "max_batch_size = 8\nmax_queue_delay = \"200ms\"\n";
    fs::write(repository.path().join("optional-joined/config.toml"), joined).unwrap();
    run("unusual_models", repository.path());
}
