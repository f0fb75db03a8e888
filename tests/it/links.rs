//! Links in a repository: those that stay within it work, and none reads what lies elsewhere on the host.

use serde_json::{Value, json};
use std::{fs, os::unix::fs::symlink, path::Path};
use tempfile::TempDir;

use crate::support::{
    client::{get, post, reasons},
    onnx::{self, external_floats},
    server::{Server, onnxd},
};

/// Number that `x + number` adds to zero; else the status.
async fn added(server: &Server, model: &str) -> Result<f64, u16> {
    let input = json!({ "name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0, 0] });
    let answer =
        post(server.http, &format!("/v2/models/{model}/infer"), json!({ "inputs": [input] }).to_string()).await;
    if answer.status == 200 {
        Ok(answer.json()["outputs"][0]["data"][0].as_f64().unwrap())
    } else {
        Err(answer.status.as_u16())
    }
}

/// A model whose weights lie in a file of that name.
fn external(location: &str) -> onnx::Graph {
    onnx::Graph { initializer: vec![external_floats("number", &[1], location)], ..onnx::add(1.0) }
}

fn link(target: impl AsRef<Path>, path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(target, path).unwrap();
}

fn write(path: &Path, contents: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

/// Output of `onnxd check` for a path.
fn check(path: &Path, options: &[&str]) -> (bool, Value) {
    let output = onnxd().args(["check", "--json"]).args(options).arg(path).output().unwrap();
    (output.status.success(), serde_json::from_slice(&output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn links_within_the_repository_work() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("repository");
    // As Kubernetes mounts a ConfigMap: each file is a link to one behind a link that is turned.
    let data = root.join("mounted/1/..2024_05_01");
    onnx::add(1.0).save(&data.join("model.onnx"));
    link("..2024_05_01", &root.join("mounted/1/..data"));
    link("..data/model.onnx", &root.join("mounted/1/model.onnx"));
    // As the hub of Hugging Face keeps its files.
    let hub = root.join("hub");
    external("model.onnx_data").save(&hub.join("blobs/aa11"));
    write(&hub.join("blobs/bb22"), 2f32.to_le_bytes());
    link("../../blobs/aa11", &hub.join("snapshots/main/model.onnx"));
    link("../../blobs/bb22", &hub.join("snapshots/main/model.onnx_data"));
    link("../hub/snapshots/main", &root.join("hugging/1"));
    // A name that leads through another folder and back.
    external("w/../weights.bin").save(&root.join("roundabout/1/model.onnx"));
    fs::create_dir(root.join("roundabout/1/w")).unwrap();
    write(&root.join("roundabout/1/weights.bin"), 3f32.to_le_bytes());
    // The repository may be a link itself.
    let served = folder.path().join("served");
    symlink(&root, &served).unwrap();
    let server = Server::start(&served);
    for (model, expected) in [("mounted", 1.0), ("hugging", 2.0), ("roundabout", 3.0)] {
        assert_eq!(added(&server, model).await, Ok(expected), "{model}: {}", reasons(&server, model).await);
    }
    for path in ["mounted", "mounted/1", "mounted/1/model.onnx", "hub/snapshots/main/model.onnx", "hugging"] {
        let (is_well, document) = check(&root.join(path), &[]);
        assert!(is_well, "{path}: {document:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_out_of_the_repository_are_refused() {
    let (folder, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (root, elsewhere) = (folder.path(), fs::canonicalize(outside.path()).unwrap());
    write(&elsewhere.join("secret.bin"), 7f32.to_le_bytes());
    write(&elsewhere.join("config.toml"), "max_batch_size = 4\n");
    write(&elsewhere.join("case.json"), "{}");
    write(&elsewhere.join("SHA256SUMS"), "secret");
    onnx::add(8.0).save(&elsewhere.join("model/1/model.onnx"));
    onnx::add(9.0).save(&elsewhere.join("model.onnx"));

    external("weights.bin").save(&root.join("weights/1/model.onnx"));
    link(elsewhere.join("secret.bin"), &root.join("weights/1/weights.bin"));
    external("w/secret.bin").save(&root.join("through/1/model.onnx"));
    link(&elsewhere, &root.join("through/1/w"));
    link(elsewhere.join("model.onnx"), &root.join("file/1/model.onnx"));
    link(elsewhere.join("model.onnx"), &root.join("flat.onnx"));
    link(elsewhere.join("model"), &root.join("folder"));
    link(elsewhere.join("model/1"), &root.join("version/1"));
    for (model, name) in [("settings", "config.toml"), ("case", "1/tests/case.json"), ("manifest", "1/SHA256SUMS")] {
        onnx::add(1.0).save(&root.join(model).join("1/model.onnx"));
        link(elsewhere.join(Path::new(name).file_name().unwrap()), &root.join(model).join(name));
    }
    let models = ["weights", "through", "file", "flat", "folder", "version", "settings", "case", "manifest"];
    let server = Server::start(root);
    for model in models {
        assert_eq!(added(&server, model).await, Err(503), "{model}");
        let why = reasons(&server, model).await;
        let says = format!("a link leads to {}", elsewhere.display());
        assert!(why.contains(&says) && why.contains("--allow-links-to"), "{model}: {why}");
        let metadata = get(server.http, &format!("/v2/models/{model}")).await.error();
        assert!(!metadata.contains(elsewhere.to_str().unwrap()), "{metadata}");
    }
    drop(server);
    let (is_well, document) = check(root, &[]);
    assert!(
        !is_well && document["versions"].as_array().unwrap().iter().all(|version| version["ok"] == false),
        "{document:#}"
    );

    // Where they are allowed, what they lead to is served; errors in it are reported as ever.
    let allowed = elsewhere.to_str().unwrap();
    let server = Server::start_with(root, &["--allow-links-to", &format!("/nowhere,{allowed}")]);
    for (model, expected) in [
        ("weights", 7.0),
        ("through", 7.0),
        ("file", 9.0),
        ("flat", 9.0),
        ("folder", 8.0),
        ("version", 8.0),
        ("settings", 1.0),
    ] {
        assert_eq!(added(&server, model).await, Ok(expected), "{model}: {}", reasons(&server, model).await);
    }
    assert!(reasons(&server, "manifest").await.contains("HASH  path"));
    let (is_well, document) = check(&root.join("weights"), &["--allow-links-to", allowed]);
    assert!(is_well, "{document:#}");
}
