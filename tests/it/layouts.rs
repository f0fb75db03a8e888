//! Folders that match no layout, or are a model themselves: what is served of them, and what is said.

use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output},
};
use tempfile::TempDir;

use crate::support::{
    client::{get, post},
    onnx,
    server::{Server, field, onnxd},
};

fn write(path: &Path, contents: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

/// Number that a model adds, and the version that answered; else the status.
async fn added(server: &Server, model: &str) -> Result<(f64, String), u16> {
    let input = json!({ "name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0, 0] });
    let request = json!({ "inputs": [input] }).to_string();
    let answer = post(server.http, &format!("/v2/models/{model}/infer"), request).await;
    if answer.status != 200 {
        return Err(answer.status.as_u16());
    }
    let json = answer.json();
    let version = json["model_version"].as_str().unwrap().to_owned();
    Ok((json["outputs"][0]["data"][0].as_f64().unwrap(), version))
}

fn check(arguments: &[&str], path: &Path) -> Output {
    onnxd().arg("check").args(arguments).arg(path).output().unwrap()
}

/// Output of `onnxd check` for a path, on both streams.
fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

fn is_warning(line: &Value, parts: &[&str]) -> bool {
    line["level"] == "WARN" && parts.iter().all(|part| field(line, "warning").contains(part))
}

#[tokio::test(flavor = "multi_thread")]
async fn unmatched_layouts_are_named_with_advice() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    let model = || onnx::add(1.0);
    onnx::add(5.0).save(&root.join("good/1/model.onnx"));
    model().save(&root.join("bert/onnx/model.onnx"));
    model().save(&root.join("bert/onnx/model_quantized.onnx"));
    write(&root.join("bert/config.json"), "{}");
    model().save(&root.join("named/v1/model.onnx"));
    model().save(&root.join("semantic/1.0.0/model.onnx"));
    model().save(&root.join("other.ONNX"));
    model().save(&root.join("bare/model.onnx"));
    model().save(&root.join("good/best.onnx"));
    model().save(&root.join("flow/model.onnx"));
    write(&root.join("flow/MLmodel"), "flavors:\n  onnx:\n");
    model().save(&root.join("deep/a/b/net.onnx"));
    write(&root.join("loose.pt"), "PK\x03\x04archive/data.pkl");
    write(&root.join("torch/model.pt"), "PK\x03\x04archive/data.pkl");
    write(&root.join("tf/model.savedmodel/saved_model.pb"), "x");
    write(&root.join("steps/config.pbtxt"), "platform: \"ensemble\"");
    // The source of a model may lie beside it.
    write(&root.join("good/model.pt"), "PK\x03\x04archive/data.pkl");
    write(&root.join("good.pkl"), "\u{80}\x04");
    write(&root.join("notes/README.md"), "nothing");
    write(&root.join("README.md"), "nothing");
    let at = |path: &str| root.join(path).display().to_string();
    let expected = [
        vec![
            at("bert/onnx/model.onnx"),
            "Hugging Face".into(),
            "1 more .onnx".into(),
            format!("ln -s onnx {}", at("bert/1")),
        ],
        vec![at("named/v1/model.onnx"), format!("mv {} {}", at("named/v1"), at("named/1"))],
        vec![at("semantic/1.0.0/model.onnx"), format!("mv {} {}", at("semantic/1.0.0"), at("semantic/1"))],
        vec![at("other.ONNX"), format!("mv {} {}", at("other.ONNX"), at("other.onnx"))],
        vec![at("bare/model.onnx"), format!("mkdir {}", at("bare/1"))],
        vec![at("good/best.onnx"), format!("mv {} {}", at("good/best.onnx"), at("good/2.onnx"))],
        vec![at("flow"), "MLflow".into(), format!("mkdir {}", at("flow/1"))],
        vec![at("deep/a/b/net.onnx"), at("deep/1/model.onnx")],
        vec![at("loose.pt"), "PyTorch".into(), "torch.onnx.export".into()],
        vec![at("torch/model.pt"), "torch.onnx.export".into()],
        vec![at("tf/model.savedmodel"), "tf2onnx".into()],
        vec![at("steps"), "config.pbtxt".into(), "no ONNX file".into()],
    ];
    let server = Server::start(root);
    for parts in &expected {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        server.wait_for_log(|line| is_warning(line, &parts));
    }
    let warnings = server.log().iter().filter(|line| line["level"] == "WARN").count();
    assert_eq!(warnings, expected.len());
    assert_eq!(added(&server, "good").await, Ok((5.0, "1".into())));

    // The check says the same, and that all is not well.
    let output = check(&["--json"], root);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &document["ok"]), (Some(1), &json!(false)));
    let unserved = document["unserved"].as_array().unwrap();
    assert_eq!(unserved.len(), expected.len(), "{unserved:#?}");
    let page = said(&check(&[], root));
    for parts in &expected {
        let all = |text: &str| parts.iter().all(|part| text.contains(part));
        assert!(unserved.iter().any(|sentence| all(sentence.as_str().unwrap())), "{parts:?}");
        assert!(page.lines().any(all), "{parts:?}: {page}");
    }

    // Its advice works, one sentence after the other.
    for sentence in unserved {
        let advice = sentence.as_str().unwrap();
        let Some(start) = ["ln -s ", "mv ", "mkdir "].iter().filter_map(|word| advice.find(word)).min() else {
            continue;
        };
        let end = advice[start..].find([',', '(']).map_or(advice.len(), |end| start + end);
        let command = &advice[start..end];
        assert!(Command::new("sh").args(["-c", command]).current_dir(root).status().unwrap().success(), "{command}");
    }
    for model in ["bert", "named", "semantic", "other", "bare", "flow"] {
        crate::support::server::eventually(model, async || added(&server, model).await == Ok((1.0, "1".into()))).await;
    }
    crate::support::server::eventually("good", async || added(&server, "good").await == Ok((1.0, "2".into()))).await;
}

/// An unserved file that comes while the server runs is named too, once.
#[tokio::test(flavor = "multi_thread")]
async fn unmatched_layouts_are_named_when_they_appear() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path());
    server.wait_for_log(|line| is_warning(line, &["holds no models"]));
    onnx::add(1.0).save(&folder.path().join("late/v2/model.onnx"));
    server.wait_for_log(|line| is_warning(line, &["late/v2/model.onnx", "late/2"]));
    onnx::add(1.0).save(&folder.path().join("good.onnx"));
    server.wait_for_log(|line| line["message"] == "ready" && line["model"] == "good");
    assert_eq!(server.count_log(|line| is_warning(line, &["late/v2/model.onnx"])), 1);
}

/// Models of other platforms in a place that is served say what to do instead of failing to be read.
#[tokio::test(flavor = "multi_thread")]
async fn versions_of_other_platforms_get_conversion_advice() {
    let folder = TempDir::new().unwrap();
    for (model, file, says) in [
        ("engine", "model.plan", ["model.plan (an engine of TensorRT)", "serve the ONNX model that it was made from"]),
        ("torch", "model.pt", ["model.pt (a PyTorch model", "torch.onnx.export"]),
        ("python", "model.py", ["model.py (a model of Triton's Python backend)", "leave it to Triton"]),
        ("tf", "model.savedmodel/saved_model.pb", ["model.savedmodel (a TensorFlow SavedModel)", "tf2onnx"]),
    ] {
        write(&folder.path().join(model).join("1").join(file), "import numpy");
        let said = said(&check(&[], &folder.path().join(model)));
        assert!(says.iter().all(|part| said.contains(part)), "{said}");
    }
}

/// A folder that is a model, and a file, are served under their names, as `onnxd check` reads them.
#[tokio::test(flavor = "multi_thread")]
async fn paths_that_are_models_are_served_alone() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    onnx::add(1.0).save(&root.join("folders/1/model.onnx"));
    onnx::add(2.0).save(&root.join("folders/2/model.onnx"));
    write(&root.join("folders/config.toml"), "versions = [1]");
    onnx::add(3.0).save(&root.join("files/3.onnx"));
    write(&root.join("files/config.toml"), "max_batch_size = 3");
    onnx::add(4.0).save(&root.join("purchase.onnx"));
    write(&root.join("purchase/config.toml"), "max_batch_size = 7");
    onnx::add(9.0).save(&root.join("not-asked-for.onnx"));
    for (path, options, model, expected) in [
        ("folders", &[][..], "folders", (1.0, "1")),
        ("folders/", &["--model-name", "renamed"], "renamed", (1.0, "1")),
        ("folders/2", &[], "folders", (2.0, "2")),
        ("files", &[], "files", (3.0, "3")),
        ("purchase.onnx", &[], "purchase", (4.0, "1")),
        ("purchase.onnx", &["--model_name=shop"], "shop", (4.0, "1")),
        ("files/3.onnx", &[], "files", (3.0, "3")),
    ] {
        if path == "folders/2" {
            fs::remove_file(root.join("folders/config.toml")).unwrap();
        }
        let server = Server::start_with(&root.join(path), options);
        assert_eq!(added(&server, model).await, Ok((expected.0, expected.1.into())), "{path}");
        assert_eq!(get(server.http, "/v2/health/ready").await.status, 200, "{path}");
        let models = get(server.admin, "/admin/v1/models").await.json();
        assert_eq!(models["models"].as_array().unwrap().len(), 1, "{path}: {models}");
        assert_eq!(server.count_log(|line| line["level"] == "WARN"), 0, "{path}");
        if path == "purchase.onnx" {
            let metadata = get(server.http, &format!("/v2/models/{model}")).await.json();
            assert_eq!(metadata["properties"]["batching"], "on: up to 7 rows", "{path}");
        }
        let output = check(&["--json"], &root.join(path));
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(output.status.success(), "{path}: {document:#}");
    }
}

/// A version of a model that is served alone is named as one in a repository is.
#[tokio::test(flavor = "multi_thread")]
async fn strays_of_a_model_that_is_served_alone_are_named() {
    let folder = TempDir::new().unwrap();
    let model = folder.path().join("m");
    onnx::add(1.0).save(&model.join("1/model.onnx"));
    onnx::add(2.0).save(&model.join("v1/model.onnx"));
    let server = Server::start(&model);
    let command = format!("mv {} {}", model.join("v1").display(), model.join("2").display());
    server.wait_for_log(|line| is_warning(line, &[&command]));
    let output = onnxd().args(["check", "m"]).current_dir(folder.path()).output().unwrap();
    assert!(!output.status.success() && said(&output).contains("mv m/v1 m/2,"), "{output:?}");
}

/// A file that is served alone is followed as a repository is.
#[tokio::test(flavor = "multi_thread")]
async fn changes_of_a_file_that_is_served_alone_are_followed() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("iris.onnx");
    onnx::add(1.0).save(&file);
    let server = Server::start(&file);
    onnx::add(2.0).save(&folder.path().join("next"));
    fs::rename(folder.path().join("next"), &file).unwrap();
    crate::support::server::eventually("it is replaced", async || {
        added(&server, "iris").await == Ok((2.0, "1".into()))
    })
    .await;
    // Like any model that is a file it goes on serving when that has gone.
    fs::remove_file(&file).unwrap();
    server.wait_for_log(|line| is_warning(line, &["iris.onnx is not there"]));
    assert_eq!(added(&server, "iris").await, Ok((2.0, "1".into())));
}

/// KServe's runtimes name the model that lies in the folder.
#[tokio::test(flavor = "multi_thread")]
async fn model_name_option_names_the_only_model() {
    let one = TempDir::new().unwrap();
    onnx::add(1.0).save(&one.path().join("model.onnx"));
    let server = Server::start_with(one.path(), &["--model-name", "shop"]);
    assert_eq!(added(&server, "shop").await, Ok((1.0, "1".into())));
    assert_eq!(added(&server, "model").await, Err(404));
    drop(server);
    onnx::add(2.0).save(&one.path().join("shop/3/model.onnx"));
    let server = Server::start_with(one.path(), &["--model-name", "shop"]);
    assert_eq!(added(&server, "shop").await, Ok((2.0, "3".into())));
    drop(server);
    let server = Server::start_with(one.path(), &["--model-name", "other"]);
    server.wait_for_log(|line| {
        line["setting"] == "--model-name" && line["value"] == "other" && line["models"] == "model, shop"
    });
    assert_eq!(added(&server, "model").await, Ok((1.0, "1".into())));
    let output = onnxd().arg("serve").arg(one.path().join("nowhere.onnx")).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("nowhere.onnx can't be read"), "{output:?}");
}

/// The advice of a load that wants settings leads to `iris/config.toml`.
#[tokio::test(flavor = "multi_thread")]
async fn settings_of_a_file_lie_in_the_folder_of_its_name() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    onnx::add(1.0).save(&root.join("iris.onnx"));
    write(&root.join("iris/config.toml"), "max_batch_size = 3");
    let server = Server::start(root);
    assert_eq!(added(&server, "iris").await, Ok((1.0, "1".into())));
    let metadata = get(server.http, "/v2/models/iris").await.json();
    assert_eq!(metadata["properties"]["batching"], "on: up to 3 rows");
    let output = check(&[], root);
    assert!(output.status.success(), "{output:?}");
}

/// Triton's settings don't hold here, and it is said which.
#[tokio::test(flavor = "multi_thread")]
async fn ignored_settings_of_triton_are_named() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    onnx::add(1.0).save(&root.join("m/1/model.onnx"));
    onnx::add(2.0).save(&root.join("m/2/model.onnx"));
    write(
        &root.join("m/config.pbtxt"),
        "name: \"m\"\nplatform: \"onnxruntime_onnx\"\nversion_policy: { specific { versions: [1] } }\ninstance_group [{ count: 2 }]\n",
    );
    let parts = ["m/config.pbtxt", "is ignored", "version_policy", "versions", "instance_group", "config.toml"];
    let server = Server::start(root);
    let line = server.wait_for_log(|line| is_warning(line, &parts));
    assert_eq!(line["model"], "m");
    let status = get(server.admin, "/admin/v1/models/m").await.json();
    let warning = status["warnings"][0].as_str().unwrap();
    assert!(parts.iter().all(|part| warning.contains(part)), "{status}");
    let url = format!("http://{}", server.admin);
    let shown = onnxd().args(["models", "--server", &url]).output().unwrap();
    assert!(said(&shown).contains(warning), "{shown:?}");
    let output = check(&[], root);
    assert!(output.status.success() && said(&output).contains(warning), "{output:?}");

    write(&root.join("m/config.pbtxt"), "max_batch_size: 4");
    server.wait_for_log(|line| is_warning(line, &["m/config.pbtxt", "max_batch_size"]));
    // It may be the reason why a version can't be loaded.
    write(&root.join("m/config.pbtxt"), "default_model_filename: \"other.onnx\"");
    fs::rename(root.join("m/2/model.onnx"), root.join("m/2/other.onnx")).unwrap();
    let said = said(&check(&[], &root.join("m")));
    assert!(said.contains("rename other.onnx to model.onnx") && said.contains("default_model_filename"), "{said}");
}

/// Links of a path are followed as far as the path was named, and no further.
#[tokio::test(flavor = "multi_thread")]
async fn links_out_of_a_lone_model_are_rejected() {
    let (folder, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let root = folder.path();
    onnx::add(7.0).save(&outside.path().join("secret/1/model.onnx"));
    fs::create_dir_all(root.join("model")).unwrap();
    symlink(outside.path().join("secret/1"), root.join("model/1")).unwrap();
    fs::create_dir(root.join("one")).unwrap();
    symlink(outside.path().join("secret"), root.join("one/only")).unwrap();
    symlink(outside.path().join("secret/1/model.onnx"), root.join("named.onnx")).unwrap();
    for (path, options, model, expected) in [
        ("model", &[][..], "model", Err(503)),
        ("one", &["--model-name", "m"], "m", Err(503)),
        ("named.onnx", &[], "named", Ok((7.0, "1".into()))),
    ] {
        let server = Server::start_with(&root.join(path), options);
        assert_eq!(added(&server, model).await, expected, "{path}");
    }
}

/// A link may serve what lies in a place that no layout matches; then there is nothing to say.
#[tokio::test(flavor = "multi_thread")]
async fn linked_files_cause_no_layout_warning() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    onnx::add(1.0).save(&root.join("hub/blobs/aa"));
    fs::create_dir_all(root.join("hub/snapshots/main/onnx")).unwrap();
    symlink("../../../blobs/aa", root.join("hub/snapshots/main/onnx/model.onnx")).unwrap();
    fs::create_dir(root.join("bert")).unwrap();
    symlink("../hub/snapshots/main/onnx", root.join("bert/1")).unwrap();
    // As Kubernetes mounts a ConfigMap.
    onnx::add(2.0).save(&root.join("..2024/flat.onnx"));
    symlink("..2024", root.join("..data")).unwrap();
    symlink("..data/flat.onnx", root.join("flat.onnx")).unwrap();
    let server = Server::start(root);
    assert_eq!(added(&server, "bert").await, Ok((1.0, "1".into())));
    assert_eq!(added(&server, "flat").await, Ok((2.0, "1".into())));
    assert_eq!(server.count_log(|line| line["level"] == "WARN"), 0);
    // A ConfigMap changes by one turn of a link.
    onnx::add(3.0).save(&root.join("..2025/flat.onnx"));
    symlink("..2025", root.join("..next")).unwrap();
    fs::rename(root.join("..next"), root.join("..data")).unwrap();
    crate::support::server::eventually("it is turned", async || added(&server, "flat").await == Ok((3.0, "1".into())))
        .await;
}
