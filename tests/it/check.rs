//! `onnxd check`: what it says of versions is what the server makes of them.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

use crate::support::{
    onnx::{self, FLOAT, Graph, INT64, Tensor, node, value},
    server::{Server, onnxd},
};

const STRING: i32 = 8;
const FP16: i32 = 10;

fn check(arguments: &[&str]) -> Output {
    onnxd().arg("check").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The document of a check that ends with this exit code.
fn document(path: &Path, code: i32) -> Value {
    let output = check(&["--json", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert_eq!(text(&output.stderr), "");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stdout)))
}

fn write(path: &Path, contents: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

/// The request that is printed for a version gets an answer from a server, as it stands but for the port.
#[tokio::test(flavor = "multi_thread")]
async fn check_prints_requests_that_work() {
    if Command::new("curl").arg("--version").output().is_err() {
        assert!(std::env::var_os("ONNXD_TEST_REQUIRE").is_none(), "curl is missing");
        eprintln!("SKIPPED check_prints_requests_that_work: there is no curl");
        return;
    }
    let folder = TempDir::new().unwrap();
    let image = Graph {
        node: vec![node("ReduceMean", &["x"], &["y"]).int("keepdims", 1)],
        ..onnx::identity(FLOAT, &["batch", "3", "224", "224"])
    };
    let many = |elem_type| onnx::identity(elem_type, &["batch", "100"]);
    let models = [
        ("add", onnx::add(1.0)),
        ("pair", onnx::pair()),
        ("image", image),
        ("half", onnx::identity(FP16, &["batch", "2"])),
        ("scalar", onnx::identity(onnx::INT64, &[])),
        ("words", onnx::identity(STRING, &["n", "n"])),
        ("many words", many(STRING)),
        ("many flags", many(onnx::BOOL)),
        ("lookup", onnx::lookup()),
        ("it's a 50% \"model\" ä/..", onnx::add(2.0)),
    ];
    let models = models.map(|(name, graph)| (name.replace('/', "|"), graph));
    for (name, graph) in models.clone() {
        graph.save(&folder.path().join(name).join("3/model.onnx"));
    }
    let server = Server::start(folder.path());
    let document = document(folder.path(), 0);
    let versions = document["versions"].as_array().unwrap();
    assert_eq!(versions.len(), models.len());
    for version in versions {
        let command = version["example"].as_str().unwrap_or_else(|| panic!("{version:#}"));
        let command = command.replace("localhost:8000", &server.http.to_string());
        let printed = Command::new("sh").args(["-c", &format!("{command} -w '\\n%{{http_code}}'")]).output().unwrap();
        let printed = text(&printed.stdout);
        assert!(printed.ends_with("\n200") && printed.contains("\"model_version\":\"3\""), "{command}\n{printed}");
    }
}

/// A repository with much to report.
fn talkative() -> TempDir {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    // Verified, tested and configured.
    let version = root.join("add/7");
    onnx::add(1.0).save(&version.join("model.onnx"));
    write(
        &root.join("add/config.toml"),
        "max_batch_size = 5\ninstances = 2\nintra_op_threads = 1\n[aliases]\nstable = 7",
    );
    let case = json!({
        "description": "zero gives one",
        "inputs": [{ "name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0, 0] }],
        "outputs": [{ "name": "y", "data": [1, 1] }],
    });
    write(&version.join("tests/zero.json"), case.to_string());
    let sum = Sha256::digest(fs::read(version.join("model.onnx")).unwrap());
    let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    write(&version.join("SHA256SUMS"), format!("{sum}  model.onnx\n"));
    // Its batch axis has another name in the output.
    Graph { output: vec![value("y", FLOAT, &["rows", "2"])], ..onnx::add(1.0) }.save(&root.join("unnamed/1.onnx"));
    onnx::across_rows().save(&root.join("across/1.onnx"));
    // Its output is not what it declares.
    let declared = vec![value("y", FLOAT, &["n", "3"])];
    Graph { output: declared, ..onnx::identity(FLOAT, &["n", "m"]) }.save(&root.join("declared.onnx"));
    onnx::identity(FP16, &["batch", "2"]).save(&root.join("half.onnx"));
    // It asks for what only GPUs have.
    onnx::add(1.0).save(&root.join("graphs/1.onnx"));
    write(&root.join("graphs/config.toml"), "cuda_graphs = true");
    folder
}

#[test]
fn check_reports_findings_and_derived_settings() {
    let folder = talkative();
    let document = document(folder.path(), 0);
    assert_eq!((&document["ok"], &document["problems"]), (&json!(true), &json!([])));
    assert_eq!(document["onnxd"], env!("CARGO_PKG_VERSION"));
    let version = |name: &str| {
        let versions = document["versions"].as_array().unwrap();
        versions.iter().find(|version| version["model"] == name).unwrap().clone()
    };
    let add = version("add");
    for (key, expected) in [
        ("version", json!(7)),
        ("ok", json!(true)),
        ("file", json!(folder.path().join("add/7/model.onnx"))),
        ("ir_version", json!(8)),
        ("operator_sets", json!({ "ai.onnx": 17 })),
        ("inputs", json!([{ "name": "x", "datatype": "FP32", "shape": ["batch", 2], "optional": false }])),
        ("outputs", json!([{ "name": "y", "datatype": "FP32", "shape": ["batch", 2] }])),
        ("devices", json!(["cpu"])),
        ("device_why", json!(null)),
        ("cuda_graphs", json!(null)),
        ("batching", json!({ "on": true, "max_batch_size": 5 })),
        ("instances", json!(2)),
        ("intra_op_threads", json!(1)),
        ("manifest", json!({ "files": 1 })),
        ("warnings", json!(["SHA256SUMS does not list tests/zero.json"])),
    ] {
        assert_eq!(add[key], expected, "{key}");
    }
    assert!(add["row_seconds"].as_f64().unwrap() > 0.0 && add["load_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(add["test_cases"][0]["description"], "zero gives one");
    let warns = |name: &str, parts: &[&str]| {
        let warnings = version(name)["warnings"].to_string();
        assert!(parts.iter().all(|part| warnings.contains(part)), "{name}: {warnings}");
    };
    let unnamed = version("unnamed");
    assert_eq!((&unnamed["batching"]["on"], &unnamed["rows"]["verdict"]), (&json!(true), &json!("proven")));
    let across = version("across");
    assert_eq!((&across["batching"]["on"], &across["rows"]["verdict"]), (&json!(false), &json!("mixes")));
    assert_eq!(across["rows"]["chain"], json!(["Softmax 'y'"]));
    warns("half", &["FP16"]);
    warns("graphs", &["cuda_graphs = true", "not recorded: it runs on cpu"]);
    assert_eq!(version("graphs")["cuda_graphs"]["on"], false);
    warns("declared", &["output 'y' is declared with shape [n,3], and came with shape [1,16]"]);

    // The same for people.
    let output = check(&[folder.path().to_str().unwrap()]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let out = text(&output.stdout);
    for part in [
        "add version 7: would serve\n",
        "/add/7/model.onnx (",
        "IR version 8, operator sets ai.onnx 17\n",
        "inputs      x  FP32    [batch,2]\n",
        "batching    on: up to 5 rows\n",
        " ms for a row\n",
        "threads     1 for a run: as config.toml says",
        "instances   2\n",
        "manifest    SHA256SUMS holds for 1 files\n",
        "tests       1 passed\n",
        "zero.json: zero gives one\n",
        "warning     SHA256SUMS does not list tests/zero.json\n",
        "try         curl -s localhost:8000/v2/models/add/versions/7/infer -d '{\"inputs\":[{",
        "unnamed version 1: would serve\n",
        "batching    off: ",
        "graphs      off: it runs on cpu, and only runs by CUDA are recorded\n",
    ] {
        assert!(out.contains(part), "{part:?} is not in\n{out}");
    }
    assert!(!out.contains('\x1b'), "colours in a pipe");
}

/// `y`, FP32 of 3.2 GB, whatever the input is.
fn huge() -> Graph {
    let shape = Tensor {
        dims: vec![1],
        data_type: INT64,
        name: "shape".into(),
        raw_data: 800_000_000_i64.to_le_bytes().into(),
        ..Tensor::default()
    };
    Graph {
        name: "huge".into(),
        node: vec![node("Expand", &["x", "shape"], &["y"])],
        initializer: vec![shape],
        input: vec![value("x", FLOAT, &["1"])],
        output: vec![value("y", FLOAT, &["n"])],
    }
}

/// The probe of a model may ask for gigabytes.
#[tokio::test]
async fn runs_of_a_check_have_the_memory_limit_of_a_server() {
    let folder = TempDir::new().unwrap();
    huge().save(&folder.path().join("default/1.onnx"));
    huge().save(&folder.path().join("configured/1.onnx"));
    write(&folder.path().join("configured/config.toml"), "max_run_memory = \"16MiB\"\nisolation = \"process\"\n");
    let path = folder.path().to_str().unwrap();

    let output = check(&["--max-run-memory", "32MiB", path]);
    let out = text(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for part in ["memory      a run may hold 32.0 MiB\n", "memory      a run may hold 16.0 MiB\n"] {
        assert!(out.contains(part), "{part:?} is not in\n{out}");
    }
    for limit in ["32MiB", "16MiB"] {
        let refused = format!(
            "probe       no made-up inputs could be run: the run needs 3.0 GiB more for a tensor and holds 0 bytes; a run may hold {limit} (max_run_memory"
        );
        assert!(out.contains(&refused), "{refused:?} is not in\n{out}");
    }

    // The default is the server's.
    fs::remove_dir_all(folder.path().join("configured")).unwrap();
    onnx::add(1.0).save(&folder.path().join("default/1.onnx"));
    let server = Server::start(folder.path());
    let limit = server.wait_for_log(|line| line["message"] == "limits")["max_run_memory"].clone();
    let checked = document(folder.path(), 0)["versions"][0].clone();
    let bytes: onnxd::config::ByteSize = limit.as_str().unwrap().trim_end_matches(" bytes").parse().unwrap();
    assert_eq!((&checked["max_run_memory"], &checked["probe_error"]), (&json!(bytes.0), &json!(null)));
}

/// Every path that may be meant, and the versions that are checked.
#[test]
fn check_accepts_any_part_of_a_repository() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    for path in ["folders/1/model.onnx", "folders/2/model.onnx", "files/3.onnx", "files/4.onnx", "alone.onnx"] {
        onnx::add(1.0).save(&root.join(path));
    }
    write(&root.join("folders/config.toml"), "max_batch_size = 3");
    // From where it is started, what it is given, what it finds.
    for (from, path, expected) in [
        ("", ".", &["alone 1", "files 3", "files 4", "folders 1", "folders 2"][..]),
        ("", "folders", &["folders 1", "folders 2"]),
        ("", "folders/2", &["folders 2"]),
        ("", "folders/2/model.onnx", &["folders 2"]),
        ("", "files/3.onnx", &["files 3"]),
        ("", "alone.onnx", &["alone 1"]),
        ("folders", ".", &["folders 1", "folders 2"]),
        ("folders", "1", &["folders 1"]),
        ("folders", "1/model.onnx", &["folders 1"]),
        ("folders/1", "model.onnx", &["folders 1"]),
        ("folders/1", ".", &["folders 1"]),
        ("folders/1", "..", &["folders 1", "folders 2"]),
        ("files", "4.onnx", &["files 4"]),
    ] {
        let output = onnxd().current_dir(root.join(from)).args(["check", "--json", path]).output().unwrap();
        assert!(output.status.success(), "{from} {path}: {output:?}");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let versions = document["versions"].as_array().unwrap();
        let found: Vec<_> = versions
            .iter()
            .map(|version| format!("{} {}", version["model"].as_str().unwrap(), version["version"]))
            .collect();
        assert_eq!(found, expected, "{from} {path}");
        for version in versions.iter().filter(|version| version["model"] == "folders") {
            assert_eq!(version["batching"]["max_batch_size"], 3, "{from} {path}");
        }
    }
}

/// Versions that would not serve, and paths that can't be checked: the exit code and the messages.
#[test]
fn check_fails_for_versions_that_would_not_serve() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    fs::create_dir(root.join("empty")).unwrap();
    let model = |name: &str, config: &str| {
        onnx::add(1.0).save(&root.join(name).join("m/1/model.onnx"));
        write(&root.join(name).join("m/config.toml"), config);
    };
    model("stable", "[aliases]\nstable = 2");
    model("weights", "[weights]\n1 = 0\n2 = 95");
    model("config", "max_batch_sise = 2");
    write(&root.join("none/m/config.toml"), "max_batch_size = 2");
    onnx::add(1.0).save(&root.join("case/m/1/model.onnx"));
    write(&root.join("case/m/1/tests/a.json"), "{}");
    write(&root.join("weights.pt"), "PK\x03\x04archive/data.pkl");
    for (arguments, code, says) in [
        (&["none-such"][..], 1, &["none-such", "No such file"][..]),
        (&["empty"], 1, &["empty holds no models", "empty/MODEL/VERSION/model.onnx"]),
        (&["stable"], 1, &["model m: WOULD NOT SERVE", "stable = 2", "only 1"]),
        (&["weights"], 1, &["model m: WOULD NOT SERVE", "weight to none of the versions", "here, 1"]),
        (&["config"], 1, &["model m: WOULD NOT SERVE", "config.toml", "max_batch_sise"]),
        (&["none"], 1, &["model m: WOULD NOT SERVE", "no version"]),
        (&["case"], 1, &["m version 1: WOULD NOT SERVE", "a.json: `inputs` is missing"]),
        (&["weights.pt"], 1, &["weights.pt version 1: WOULD NOT SERVE", "PyTorch", "torch.onnx.export"]),
        (&["--jsn", "empty"], 2, &["--jsn", "--json"]),
        (&[], 2, &["<PATH>"]),
    ] {
        let output = onnxd().current_dir(root).arg("check").args(arguments).output().unwrap();
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        let unsaid: Vec<_> = says.iter().filter(|part| !said.contains(**part)).collect();
        assert!(
            output.status.code() == Some(code) && unsaid.is_empty(),
            "{arguments:?} without {unsaid:?}: {output:?}"
        );
    }
    let document = document(&root.join("config"), 1);
    assert_eq!((&document["ok"], &document["versions"]), (&json!(false), &json!([])));
    assert!(document["problems"][0]["error"].as_str().unwrap().contains("max_batch_sise"), "{document:#}");
}

/// Names come from whoever made the model; a terminal must not obey them.
#[test]
fn model_names_are_escaped_for_the_terminal() {
    let folder = TempDir::new().unwrap();
    let name = "x\x1b[2J\u{7}";
    let graph = Graph {
        node: vec![node("Add", &[name, "number"], &["y"])],
        input: vec![value(name, FLOAT, &["batch", "2"])],
        ..onnx::add(1.0)
    };
    graph.save(&folder.path().join("m.onnx"));
    let output = check(&[folder.path().to_str().unwrap()]);
    let out = text(&output.stdout);
    assert!(output.status.success() && out.contains("x\\u{1b}[2J\\u{7}"), "{out}");
    assert!(out.chars().all(|character| character == '\n' || !character.is_control()), "{out:?}");
}

/// Everything below a folder with all that a write would change.
fn state(folder: &Path, found: &mut BTreeMap<PathBuf, [i64; 5]>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let times = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
        found.insert(path.clone(), [times[0], times[1], times[2], times[3], metadata.size() as i64]);
        if metadata.is_dir() {
            state(&path, found);
        }
    }
}

#[test]
fn check_changes_no_file() {
    let folder = talkative();
    let state = || {
        let mut found = BTreeMap::new();
        state(folder.path(), &mut found);
        found
    };
    let before = state();
    assert!(onnxd().current_dir(folder.path()).args(["check", "."]).output().unwrap().status.success());
    assert_eq!(state(), before);

    // Nor does it want to, where nothing can be: neither here nor in temporary or home folders.
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,ro,bind \"$1\" && cd \"$1\" && ! touch written 2>/dev/null \
         && HOME=$1 TMPDIR=$1 exec \"$2\" check .";
    let path = folder.path().to_str().unwrap();
    let library = onnxd::ort_library::locate().unwrap();
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh", path, env!("CARGO_BIN_EXE_onnxd")]);
    let output = match command.env("ORT_DYLIB_PATH", library).output() {
        Ok(output) if !text(&output.stderr).contains("not permitted") && !text(&output.stderr).contains("denied") => {
            output
        }
        _ => {
            eprintln!("SKIPPED what happens on a read-only file system: none can be mounted here");
            return;
        }
    };
    assert!(output.status.success() && text(&output.stdout).contains("add version 7: would serve"), "{output:?}");
}
