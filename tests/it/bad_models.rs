//! Models that can't be loaded: the reason stands where people look for it, and everything else is served.

use onnxd::api::proto::ModelMetadataRequest;
use prost::Message;
use serde_json::{Value, json};
use std::{fs, os::unix::fs::symlink, path::Path, process::Command};
use tempfile::TempDir;

use crate::support::{
    client::{get, infer, inference, post, raw_request, reasons},
    onnx::{self, Attribute, Graph, Model, OperatorSet, external_floats, node, value},
    server::{Server, eventually, field, onnxd},
};

const STRING: i32 = 8;
const BF16: i32 = 16;

/// A version that can't be loaded: the model's name, what is put at the path of its only version's model file, and what must
/// be said of it besides that path.
struct Bad {
    name: &'static str,
    put: Box<dyn Fn(&Path)>,
    says: &'static [&'static str],
}

fn bad(name: &'static str, says: &'static [&'static str], put: impl Fn(&Path) + 'static) -> Bad {
    Bad { name, put: Box::new(put), says }
}

fn bytes(name: &'static str, contents: &'static [u8], says: &'static [&'static str]) -> Bad {
    bad(name, says, move |path| fs::write(path, contents).unwrap())
}

fn graph(name: &'static str, says: &'static [&'static str], graph: impl Fn() -> Graph + 'static) -> Bad {
    bad(name, says, move |path| graph().save(path))
}

/// A model of one node with FP32 [batch,2] in and out, with operator sets and an IR version.
fn model(node: onnx::Node, sets: &[(&str, i64)], ir_version: i64) -> Vec<u8> {
    let graph = Graph { node: vec![node], initializer: vec![], ..onnx::add(1.0) };
    let set = |&(domain, version): &(&str, i64)| OperatorSet { domain: domain.into(), version };
    Model { ir_version, graph: Some(graph), opset_import: sets.iter().map(set).collect() }.encode_to_vec()
}

fn external(location: &'static str) -> Graph {
    Graph { initializer: vec![external_floats("number", &[1], location)], ..onnx::add(1.0) }
}

fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn bad_models() -> Vec<Bad> {
    let add = || node("Add", &["x", "x"], &["y"]);
    let mut all = vec![
        bytes("empty", b"", &["is empty"]),
        bytes("text", b"Not found: model.onnx\n", &["text", "\"Not found: model.onnx\"", "expected an ONNX model"]),
        bytes(
            "lfs",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 132\n",
            &["Git LFS pointer", "git lfs pull"],
        ),
        bytes("torch", b"PK\x03\x04\0\0\0\0archive/data.pklFB", &["PyTorch", "torch.onnx.export"]),
        bytes("zip", b"PK\x03\x04\0\0\0\0readme", &["zip archive", "unpack"]),
        bytes("pickle", b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c", &["pickle", "skl2onnx"]),
        bytes("saved_model", b"\x08\x01\x12\xd6\x84\x01\x0a\x20", &["TensorFlow SavedModel", "tf2onnx"]),
        bytes("keras", b"\x89HDF\r\n\x1a\n\0\0\0", &["Keras", "tf2onnx"]),
        bytes("gguf", b"GGUF\x03\0\0\0", &["GGUF"]),
        bytes("safetensors", b"\x02\0\0\0\0\0\0\0{}\0\0", &["safetensors", "no graph"]),
        bytes("tensorrt", b"ptrt\0\0\0\0", &["TensorRT engine"]),
        bytes("noise", b"\xff\xfe\xfd\xfc", &["no complete ONNX model", "ONNX Runtime says: "]),
        bad("truncated", &["no complete ONNX model", "cut short", "ONNX Runtime says: "], |path| {
            let whole = onnx::mlp(&[4, 8, 2]).encode();
            fs::write(path, &whole[..whole.len() / 2]).unwrap();
        }),
        bad("sparse", &["only zeros"], |path| {
            fs::File::create(path).unwrap().set_len(200 << 30).unwrap();
        }),
        bad("huge", &["2147483647 bytes at most", "got 214748364800", "save_as_external_data"], |path| {
            onnx::add(1.0).save(path);
            fs::File::options().write(true).open(path).unwrap().set_len(200 << 30).unwrap();
        }),
        bad("opset", &["operator set 99 of ai.onnx", "up to 26"], move |path| {
            fs::write(path, model(add(), &[("", 99)], 8)).unwrap();
        }),
        bad("ir", &["IR version 99", "up to 13"], move |path| fs::write(path, model(add(), &[("", 17)], 99)).unwrap()),
        bad("custom", &["custom operator 'Frobnicate'", "domain 'com.acme'", "not loaded"], |path| {
            let node = onnx::Node { domain: "com.acme".into(), ..node("Frobnicate", &["x"], &["y"]) };
            fs::write(path, model(node, &[("", 17), ("com.acme", 1)], 8)).unwrap();
        }),
        bad("contrib", &["'NoSuchThing'", "'com.microsoft'", "contrib"], |path| {
            let node = onnx::Node { domain: "com.microsoft".into(), ..node("NoSuchThing", &["x"], &["y"]) };
            fs::write(path, model(node, &[("", 17), ("com.microsoft", 1)], 8)).unwrap();
        }),
        bad("unknown_operator", &["'Addd'", "operator set 17"], |path| {
            fs::write(path, model(node("Addd", &["x", "x"], &["y"]), &[("", 17)], 8)).unwrap();
        }),
        graph("locale", &["locale 'xx_YY.UTF-8'", "locale=\"C\""], || {
            let attribute = |name: &str, text: &str| Attribute {
                name: name.into(),
                s: text.into(),
                kind: 3,
                ..Attribute::default()
            };
            let mut normalizer = node("StringNormalizer", &["x"], &["y"]);
            normalizer.attribute = vec![attribute("case_change_action", "LOWER"), attribute("locale", "xx_YY.UTF-8")];
            Graph { node: vec![normalizer], ..onnx::identity(STRING, &["words"]) }
        }),
        graph("bf16", &["no implementation", "'Add'", "BF16"], || Graph {
            node: vec![node("Add", &["x", "x"], &["y"])],
            ..onnx::identity(BF16, &["batch", "2"])
        }),
        graph("contradiction", &["contradicts itself", "check_model"], || Graph {
            output: vec![value("y", onnx::INT64, &["batch", "2"])],
            ..onnx::add(1.0)
        }),
        graph("outputs", &["the model has no outputs, expected at least one"], || Graph {
            output: vec![],
            ..onnx::add(1.0)
        }),
        graph("weights_missing", &["weights in 'weights.bin'", "No such file", "beside the model"], || {
            external("weights.bin")
        }),
        graph("weights_outside", &["'../../../secret'", "outside the model's folder"], || external("../../../secret")),
        graph("weights_absolute", &["'/etc/hostname'", "outside the model's folder"], || external("/etc/hostname")),
        bad("weights_short", &["weights"], |path| {
            external("weights.bin").save(path);
            fs::write(path.with_file_name("weights.bin"), [0; 2]).unwrap();
        }),
        bad("folder", &["a folder, expected a file"], |path| fs::create_dir(path).unwrap()),
        bad("pipe", &["a pipe, expected a file"], make_pipe),
        bad("device", &["a device, expected a file"], |path| symlink("/dev/zero", path).unwrap()),
        bad("dangling", &["a link to /nowhere/model.onnx, which is not there"], |path| {
            symlink("/nowhere/model.onnx", path).unwrap();
        }),
        bad("loop", &["leads back to itself"], |path| symlink(path, path).unwrap()),
        bad("elsewhere", &["no such file", "model.pt (a PyTorch model", "notes.txt"], |path| {
            fs::write(path.with_file_name("model.pt"), b"PK\x03\x04\0\0\0\0archive/data.pklFB").unwrap();
            fs::write(path.with_file_name("notes.txt"), "notes").unwrap();
        }),
        bad("renamed", &["no such file", "rename resnet.onnx to model.onnx"], |path| {
            onnx::add(1.0).save(&path.with_file_name("resnet.onnx"));
        }),
        bad("nothing", &["no such file", "its folder is empty"], |_| ()),
    ];
    // Root may read everything.
    if may_read_everything() {
        eprintln!("SKIPPED what can't be read for want of permission: this user may read everything");
    } else {
        use std::os::unix::fs::PermissionsExt;
        all.push(bad("forbidden", &["Permission denied", "must be allowed to read it"], |path| {
            onnx::add(1.0).save(path);
            fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
        }));
    }
    all
}

fn may_read_everything() -> bool {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    fs::read(&file).is_ok()
}

/// A repository of them all, each as version 1 in a folder of its own, beside one good model.
fn repository() -> (TempDir, Vec<Bad>) {
    let folder = TempDir::new().unwrap();
    onnx::add(1.0).save(&folder.path().join("good/1/model.onnx"));
    let all = bad_models();
    for bad in &all {
        let path = folder.path().join(bad.name).join("1/model.onnx");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        (bad.put)(&path);
    }
    (folder, all)
}

fn request() -> String {
    json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0, 0] }] }).to_string()
}

async fn serves(server: &Server, model: &str) -> bool {
    post(server.http, &format!("/v2/models/{model}/infer"), request()).await.status == 200
}

#[tokio::test(flavor = "multi_thread")]
async fn server_reports_the_cause_and_serves_other_models() {
    let (folder, all) = repository();
    let server = Server::start(folder.path());
    let mut complaints = Vec::new();
    for bad in &all {
        let path = folder.path().join(bad.name).join("1/model.onnx");
        let answer = post(server.http, &format!("/v2/models/{}/infer", bad.name), request()).await;
        let said = reasons(&server, bad.name).await;
        let always = ["version 1", path.to_str().unwrap()];
        let unsaid: Vec<_> = always.iter().chain(bad.says).filter(|part| !said.contains(**part)).collect();
        if answer.status != 503 || !unsaid.is_empty() {
            complaints.push(format!("{}: {} without {unsaid:?}: {said}", bad.name, answer.status));
        }
        let logged = server.count_log(|line| line["level"] == "ERROR" && line["model"] == bad.name);
        if logged != 1 {
            complaints.push(format!("{}: {logged} log lines tell it", bad.name));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(serves(&server, "good").await);
}

/// The same words, without a server.
#[test]
fn check_reports_the_cause_and_checks_other_models() {
    let (folder, all) = repository();
    let output = onnxd().args(["check", "--json"]).arg(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let versions = document["versions"].as_array().unwrap();
    let version = |name: &str| versions.iter().find(|version| version["model"] == name).unwrap();
    let mut complaints = Vec::new();
    for bad in &all {
        let said = version(bad.name)["error"].as_str().unwrap_or_default();
        let path = folder.path().join(bad.name).join("1/model.onnx");
        let always = [path.to_str().unwrap()];
        let unsaid: Vec<_> = always.iter().chain(bad.says).filter(|part| !said.contains(**part)).collect();
        if !unsaid.is_empty() || version(bad.name)["ok"] != false {
            complaints.push(format!("{}: without {unsaid:?}: {said}", bad.name));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert_eq!(version("good")["ok"], true);
}

/// A reload that can't replace a serving version leaves it in its place, whatever is wrong, and costs no memory.
#[tokio::test(flavor = "multi_thread")]
async fn failed_reload_keeps_the_serving_version() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model/1/model.onnx");
    // The version's folder is a link that is turned, since a folder that is gone for a while would be unloaded.
    let turn = |name: &str, put: &dyn Fn(&Path)| {
        let (contents, link) = (folder.path().join(format!(".{name}")), folder.path().join(".link"));
        fs::create_dir_all(&contents).unwrap();
        put(&contents.join("model.onnx"));
        symlink(&contents, &link).unwrap();
        fs::rename(&link, path.parent().unwrap()).unwrap();
    };
    fs::create_dir_all(folder.path().join("model")).unwrap();
    turn("good", &|path| onnx::add(1.0).save(path));
    let server = Server::start(folder.path());
    let memory = || {
        let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    let failures = |line: &Value| line["level"] == "ERROR" && line["model"] == "model";
    let mut failure_count = 0;
    let mut after_first_round = 0;
    for round in 0..3 {
        for bad in bad_models() {
            turn(&format!("{round}-{}", bad.name), &|aside| {
                (bad.put)(aside);
                if bad.name == "loop" {
                    fs::remove_file(aside).unwrap();
                    symlink(&path, aside).unwrap();
                }
            });
            failure_count += 1;
            let what = format!("failure {failure_count} ({}) is reported", bad.name);
            eventually(&what, async || server.count_log(failures) == failure_count).await;
            assert!(serves(&server, "model").await, "{}", bad.name);
        }
        if round == 0 {
            after_first_round = memory();
        }
    }
    let grown = memory().saturating_sub(after_first_round);
    assert!(grown < 32, "{grown} MiB more after {failure_count} failures; {after_first_round} MiB before");
    server.wait_for_logs(failure_count, |line| line["is_serving"] == true);

    // And once it is good again it takes over.
    turn("better", &|path| onnx::add(2.0).save(path));
    eventually("the good one serves", async || {
        let answer = post(server.http, "/v2/models/model/infer", request()).await.json();
        answer["outputs"][0]["data"][0] == 2.0
    })
    .await;
}

/// A file outside of the watched files may come later: the load is retried, and logged once.
#[tokio::test(flavor = "multi_thread")]
async fn transient_load_failure_is_retried() {
    let folder = TempDir::new().unwrap();
    // A version that is a file has no folder of its own whose files would be watched.
    external("weights.bin").save(&folder.path().join("model/1.onnx"));
    let server = Server::start_with(folder.path(), &["--log-level", "onnxd=debug"]);
    assert!(!serves(&server, "model").await);
    server.wait_for_log(|line| {
        line["level"] == "DEBUG" && line["message"] == "load failed again, retrying with back-off"
    });
    server.wait_for_logs(1, |line| line["level"] == "ERROR" && line["model"] == "model");
    fs::write(folder.path().join("model/weights.bin"), 1f32.to_le_bytes()).unwrap();
    eventually("its weights are found", async || serves(&server, "model").await).await;
}

/// A file in a folder of the version's folder belongs to it, and so does a copy that keeps the time of its original.
#[tokio::test(flavor = "multi_thread")]
async fn hidden_weight_changes_are_detected() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model/1/model.onnx");
    external("weights/all.bin").save(&path);
    let weights = folder.path().join("model/1/weights/all.bin");
    fs::create_dir_all(weights.parent().unwrap()).unwrap();
    fs::write(&weights, 1f32.to_le_bytes()).unwrap();
    let server = Server::start(folder.path());
    let adds = async |number: f64| {
        let answer = post(server.http, "/v2/models/model/infer", request()).await.json();
        answer["outputs"][0]["data"][0] == number
    };
    assert!(adds(1.0).await);
    let times = fs::metadata(&weights).unwrap().modified().unwrap();
    fs::write(&weights, 2f32.to_le_bytes()).unwrap();
    fs::File::options().write(true).open(&weights).unwrap().set_modified(times).unwrap();
    eventually("the new weights are used", async || adds(2.0).await).await;
}

/// A pipe is not waited for, wherever it lies.
#[tokio::test(flavor = "multi_thread")]
async fn pipes_are_not_waited_for() {
    let folder = TempDir::new().unwrap();
    onnx::add(1.0).save(&folder.path().join("good.onnx"));
    onnx::add(1.0).save(&folder.path().join("settings/1/model.onnx"));
    make_pipe(&folder.path().join("settings/config.toml"));
    make_pipe(&folder.path().join("pipe.onnx"));
    onnx::add(1.0).save(&folder.path().join("manifest/1/model.onnx"));
    make_pipe(&folder.path().join("manifest/1/SHA256SUMS"));
    onnx::add(1.0).save(&folder.path().join("case/1/model.onnx"));
    fs::create_dir(folder.path().join("case/1/tests")).unwrap();
    make_pipe(&folder.path().join("case/1/tests/a.json"));
    external("weights.bin").save(&folder.path().join("weights/1/model.onnx"));
    make_pipe(&folder.path().join("weights/1/weights.bin"));
    let server = Server::start(folder.path());
    assert!(serves(&server, "good").await);
    for (model, says) in [
        ("settings", "config.toml can't be read: it is a pipe"),
        ("pipe", "pipe.onnx: it is a pipe"),
        ("manifest", "SHA256SUMS: it is a pipe"),
        ("case", "a.json: it is a pipe"),
        ("weights", "weights.bin: it is a pipe"),
    ] {
        let answer = get(server.http, &format!("/v2/models/{model}")).await;
        assert!(answer.status == 503 && !answer.error().contains("it is a pipe"), "{answer:?}");
        let why = reasons(&server, model).await;
        assert!(why.contains(says), "{why}");
    }
}

/// No answer to a client shows where files lie, or what is in them.
#[tokio::test(flavor = "multi_thread")]
async fn data_ports_disclose_no_host_paths() {
    let (folder, all) = repository();
    let root = fs::canonicalize(folder.path()).unwrap();
    fs::create_dir(root.join("unreadable")).unwrap();
    make_pipe(&root.join("unreadable/config.toml"));
    let secret = root.join("secret.toml");
    fs::write(&secret, "root:x:0:0\n").unwrap();
    fs::create_dir(root.join("settings")).unwrap();
    symlink(&secret, root.join("settings/config.toml")).unwrap();
    let server = Server::start(folder.path());
    let client = inference(&server).await;
    let names = all.iter().map(|bad| bad.name).chain(["unreadable", "settings"]);
    for name in names {
        let mut answers = Vec::new();
        for path in ["", "/ready", "/versions/1", "/versions/1/ready", "/versions/stable"] {
            let answer = get(server.http, &format!("/v2/models/{name}{path}")).await;
            answers.push(String::from_utf8(answer.body.to_vec()).unwrap());
        }
        for path in ["/infer", "/versions/1/infer"] {
            let answer = post(server.http, &format!("/v2/models/{name}{path}"), request()).await;
            answers.push(format!("{:?} {}", answer.headers, answer.error()));
        }
        let raw = raw_request(name, "x", "FP32", &[1, 2], vec![0; 8]);
        answers.push(infer(&client, raw).await.unwrap_err().to_string());
        let metadata = ModelMetadataRequest { name: name.into(), version: String::new() };
        answers.push(client.clone().model_metadata(metadata).await.unwrap_err().to_string());
        for answer in answers {
            let parts =
                [root.to_str().unwrap(), folder.path().to_str().unwrap(), "model.onnx", "root:x", "config.toml"];
            let failure_count: Vec<_> = parts.iter().filter(|part| answer.contains(**part)).collect();
            assert!(failure_count.is_empty(), "{name}: {failure_count:?} in {answer}");
        }
    }
}

/// `y = x + number`, whose every run takes so long that its load, which runs it to warm it up, is met on its way.
fn slow_to_load(number: f32) -> Graph {
    const ROUNDS: i64 = 5_000;
    let mut graph = onnx::slow();
    graph.input.clear();
    graph.output.clear();
    graph.initializer.push(onnx::Tensor {
        dims: vec![1],
        data_type: onnx::INT64,
        name: "iterations".into(),
        raw_data: ROUNDS.to_le_bytes().to_vec(),
        ..onnx::Tensor::default()
    });
    // The nodes behind the loop are replaced.
    graph.node.truncate(5);
    graph.node.push(node("Add", &["floor", "number"], &["sum"]));
    graph.node.push(node("Add", &["x", "sum"], &["y"]));
    let add = onnx::add(number);
    Graph { initializer: [graph.initializer, add.initializer].concat(), input: add.input, output: add.output, ..graph }
}

/// A version that changes or goes while it is loaded is not served, and the one that takes its place is.
#[tokio::test(flavor = "multi_thread")]
async fn version_changed_during_its_load_is_reloaded() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path());
    for model in ["changes", "vanishes"] {
        let path = folder.path().join(model).join("1/model.onnx");
        slow_to_load(1.0).save(&path);
        let address = format!("/v2/models/{model}");
        eventually("it is being loaded", async || {
            let answer = get(server.http, &address).await;
            answer.status == 503 && answer.error().contains("is being loaded")
        })
        .await;
        fs::remove_file(&path).unwrap();
        if model == "changes" {
            onnx::add(2.0).save(&path);
        }
        server.wait_for_log(|line| {
            line["model"] == model && field(line, "error").contains("it changed while it was loaded")
        });
    }
    eventually("what is there now serves", async || serves(&server, "changes").await).await;
    eventually("missing file is reported", async || reasons(&server, "vanishes").await.contains("no such file")).await;
    // A version that was loaded of the first files was never reported ready.
    server.wait_for_logs(1, |line| line["message"] == "ready" && line["model"] == "changes");
    assert_eq!(server.count_log(|line| line["message"] == "ready" && line["model"] == "vanishes"), 0);
}

/// Messages of ONNX Runtime on failing runs must not fill the log as fast as a client can ask.
#[tokio::test]
async fn failing_requests_do_not_fill_the_log() {
    let repository = TempDir::new().unwrap();
    onnx::lookup().save(&repository.path().join("lookup.onnx"));
    let server = Server::start(repository.path());
    let request = r#"{"inputs": [{"name": "x", "datatype": "INT64", "shape": [1, 1], "data": [9]}]}"#;
    for _ in 0..50 {
        let answer = crate::support::client::post(server.http, "/v2/models/lookup/infer", request.to_string()).await;
        assert!(answer.status.is_client_error() || answer.status.is_server_error());
    }
    let lines = server.count_log(|line| line["target"] == "onnxruntime");
    assert!(lines < 10, "{lines} lines for 50 requests");
}
