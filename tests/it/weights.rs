//! Files of weights beside a model: every one that a version reads is watched and counted, in every layout.

use serde_json::json;
use std::{fs, path::Path};
use tempfile::TempDir;

use crate::support::{
    client::{get, post},
    onnx::{self, Graph, external_floats, floats, node},
    server::{Server, eventually, field, onnxd},
};

fn write(path: &Path, contents: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

/// A model's answer to zeros, or to ones; else the status.
async fn answered(server: &Server, model: &str, x: f64) -> Result<f64, u16> {
    let input = json!({ "name": "x", "datatype": "FP32", "shape": [1, 2], "data": [x, x] });
    let request = json!({ "inputs": [input] }).to_string();
    let answer = post(server.http, &format!("/v2/models/{model}/infer"), request).await;
    if answer.status != 200 {
        return Err(answer.status.as_u16());
    }
    Ok(answer.json()["outputs"][0]["data"][0].as_f64().unwrap())
}

/// `y = x * k + c` with `k` in a file.
fn scaled(location: &str, c: f32) -> Graph {
    Graph {
        node: vec![node("Mul", &["x", "k"], &["m"]), node("Add", &["m", "c"], &["y"])],
        initializer: vec![external_floats("k", &[1], location), floats("c", &[1], &[c])],
        ..onnx::add(1.0)
    }
}

const LAYOUTS: [(&str, &str); 4] = [
    ("flat", "flat.onnx"),
    ("numbered", "numbered/1.onnx"),
    ("folder", "folder/1/model.onnx"),
    // Beyond what is looked at of a version's folder.
    ("deep", "deep/1/model.onnx"),
];

fn location(model: &str, path: &str) -> String {
    let name = Path::new(path).file_name().unwrap().to_str().unwrap();
    if model == "deep" { "a/b/c/d/e/f/w.bin".into() } else { format!("{name}.data") }
}

/// A graph that is replaced before its weights are there is not served over the old ones; both are, once they are there.
#[tokio::test(flavor = "multi_thread")]
async fn weights_that_come_later_are_waited_for_in_every_layout() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    let weights = |model: &str, path: &str| root.join(path).parent().unwrap().join(location(model, path));
    for (model, path) in LAYOUTS {
        scaled(&location(model, path), 0.0).save(&root.join(path));
        write(&weights(model, path), 2f32.to_le_bytes());
    }
    let server = Server::start(root);
    for (model, path) in LAYOUTS {
        assert_eq!(answered(&server, model, 1.0).await, Ok(2.0), "{model}");
        scaled(&location(model, path), 100.0).save(&root.join(path));
    }
    for (model, _) in LAYOUTS {
        let waits = |line: &serde_json::Value| {
            line["model"] == model && field(line, "message").contains("waiting for its weights")
        };
        server.wait_for_log(waits);
        assert_eq!(answered(&server, model, 1.0).await, Ok(2.0), "{model}");
    }
    for (model, path) in LAYOUTS {
        write(&weights(model, path), 3f32.to_le_bytes());
    }
    for (model, _) in LAYOUTS {
        eventually(model, async || {
            let answer = answered(&server, model, 1.0).await;
            assert!(answer == Ok(2.0) || answer == Ok(103.0), "{model}: {answer:?}");
            answer == Ok(103.0)
        })
        .await;
    }
    // Weights alone are replaced as well.
    for (model, path) in LAYOUTS {
        write(&weights(model, path), 5f32.to_le_bytes());
    }
    for (model, _) in LAYOUTS {
        eventually(model, async || answered(&server, model, 1.0).await == Ok(105.0)).await;
    }
    // A graph alone is loaded in the end, and at once where somebody asks for it.
    let (model, path) = LAYOUTS[0];
    scaled(&location(model, path), 200.0).save(&root.join(path));
    let (model, path) = LAYOUTS[1];
    scaled(&location(model, path), 200.0).save(&root.join(path));
    assert_eq!(post(server.admin, &format!("/admin/v1/models/{model}/reload"), "{}").await.status, 200);
    eventually(model, async || answered(&server, model, 1.0).await == Ok(205.0)).await;
    eventually("flat", async || answered(&server, "flat", 1.0).await == Ok(205.0)).await;
}

/// The memory that a version may take is that of all files that it reads.
#[tokio::test(flavor = "multi_thread")]
async fn weights_count_for_the_limit_of_memory_in_every_layout() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    for (model, path) in LAYOUTS {
        scaled(&location(model, path), 0.0).save(&root.join(path));
        let mut contents = 2f32.to_le_bytes().to_vec();
        contents.resize(300 << 10, 0);
        write(&root.join(path).parent().unwrap().join(location(model, path)), contents);
    }
    let server = Server::start_with(root, &["--model-memory", "200KiB"]);
    for (model, _) in LAYOUTS {
        let status = get(server.admin, &format!("/admin/v1/models/{model}")).await.json();
        let problem = status["versions"][0]["problem"].as_str().unwrap_or_default();
        assert!(problem.contains("--model-memory"), "{model}: {status}");
    }
    let output = onnxd().args(["check", "--json"]).arg(root).output().unwrap();
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for version in document["versions"].as_array().unwrap() {
        assert!(version["bytes"].as_u64().unwrap() > 300 << 10, "{version:#}");
    }
}

/// Names that stand for one file are read once; a name that leads through a folder stays where it leads by its words.
#[tokio::test(flavor = "multi_thread")]
async fn weights_have_any_number_of_names() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    let graph = || Graph {
        node: vec![
            node("Add", &["x", "a"], &["m"]),
            node("Add", &["m", "b"], &["n"]),
            node("Add", &["n", "c"], &["y"]),
        ],
        initializer: vec![
            external_floats("a", &[1], "w.bin"),
            external_floats("b", &[1], "./w.bin"),
            external_floats("c", &[1], "no/../w.bin"),
        ],
        ..onnx::add(1.0)
    };
    let mut weights = 2f32.to_le_bytes().to_vec();
    weights.resize(8 << 20, 0);
    for (model, config) in [("plain", ""), ("worker", "isolation = \"process\"")] {
        graph().save(&root.join(model).join("1/model.onnx"));
        write(&root.join(model).join("1/w.bin"), &weights);
        write(&root.join(model).join("config.toml"), config);
    }
    let server = Server::start(root);
    for model in ["plain", "worker"] {
        assert_eq!(answered(&server, model, 0.0).await, Ok(6.0), "{model}");
        let status = get(server.admin, &format!("/admin/v1/models/{model}")).await.json();
        let memory = status["versions"][0]["memory_bytes"].to_string().trim_matches('"').parse::<u64>().unwrap();
        assert!((8 << 20..12 << 20).contains(&memory), "{model}: {status}");
    }
}
