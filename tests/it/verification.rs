//! Verification of a version by its own files: the manifest of its files, and its test cases.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

use crate::support::{
    client::{get, post, reasons},
    onnx::{self, external_floats},
    server::{Server, eventually, field},
};

fn sha256(path: &Path) -> String {
    Sha256::digest(fs::read(path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write(path: &Path, contents: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

/// Sum that `x + number` gives for [0, 0], and the version that answered; else why not.
async fn added(server: &Server, model: &str) -> Result<(f64, String), String> {
    let request = json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0, 0] }] });
    let answer = post(server.http, &format!("/v2/models/{model}/infer"), request.to_string()).await;
    if answer.status != 200 {
        assert_eq!(answer.status, 503, "{answer:?}");
        return Err(answer.error());
    }
    let json = answer.json();
    Ok((json["outputs"][0]["data"][0].as_f64().unwrap(), json["model_version"].as_str().unwrap().into()))
}

/// A model with something wrong: its name, what is put into its version's folder, what must be said.
type Wrong<'a> = (&'a str, &'a dyn Fn(&Path), &'a [&'a str]);

/// Models with something wrong, by what is put into the version's folder of a good one: each says what it is, and the good
/// one beside them serves.
async fn all_say_why(wrong: &[Wrong<'_>]) {
    let folder = TempDir::new().unwrap();
    onnx::add(1.0).save(&folder.path().join("good.onnx"));
    for (name, put, _) in wrong {
        let version = folder.path().join(name).join("1");
        onnx::add(1.0).save(&version.join("model.onnx"));
        put(&version);
    }
    let server = Server::start(folder.path());
    let mut complaints = Vec::new();
    for (name, _, says) in wrong {
        match added(&server, name).await {
            Ok(answer) => complaints.push(format!("{name}: serves {answer:?}")),
            Err(public) => {
                assert!(!public.contains(folder.path().to_str().unwrap()), "{public}");
                let said = reasons(&server, name).await;
                let unsaid: Vec<_> = says.iter().filter(|part| !said.contains(**part)).collect();
                if !unsaid.is_empty() {
                    complaints.push(format!("{name}: without {unsaid:?}: {said}"));
                }
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(added(&server, "good").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_manifest_is_reported() {
    const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
    let manifest = |lines: &'static str| {
        move |version: &Path| {
            let text = lines.replace("GOOD", &sha256(&version.join("model.onnx"))).replace("ZEROS", ZEROS);
            write(&version.join("SHA256SUMS"), text);
        }
    };
    all_say_why(&[
        (
            "mismatch",
            &manifest("ZEROS  model.onnx\n"),
            &["mismatch/1/SHA256SUMS", "model.onnx", &format!("expected SHA-256 {ZEROS}"), "got "],
        ),
        ("missing", &manifest("GOOD  model.onnx\nZEROS  weights.bin\n"), &["line 2", "weights.bin", "no such file"]),
        ("unlisted", &manifest("# nothing\n"), &["does not list model.onnx", "sha256sum"]),
        ("malformed", &manifest("GOOD model.onnx\n"), &["line 1", "HASH  path"]),
        ("outside", &manifest("GOOD  model.onnx\nZEROS  ../../good.onnx\n"), &["line 2", "../../good.onnx", "inside"]),
        ("folder", &|version| fs::create_dir(version.join("SHA256SUMS")).unwrap(), &["SHA256SUMS", "a folder"]),
        (
            "listed_folder",
            &|version| {
                fs::create_dir(version.join("weights")).unwrap();
                manifest("GOOD *model.onnx\nZEROS *weights\n")(version);
            },
            &["line 2 lists weights", "a folder, expected a file"],
        ),
        ("huge", &|version| write(&version.join("SHA256SUMS"), vec![b'#'; 2 << 20]), &["more than 1048576 bytes"]),
    ])
    .await;
}

/// As `sha256sum` makes it. A file that it does not list is reported; a version whose files are swapped without it does not
/// serve.
#[tokio::test(flavor = "multi_thread")]
async fn manifest_guards_its_version() {
    let folder = TempDir::new().unwrap();
    let version = folder.path().join("model/1");
    onnx::Graph { initializer: vec![external_floats("number", &[1], "weights/all.bin")], ..onnx::add(1.0) }
        .save(&version.join("model.onnx"));
    let weights = version.join("weights/all.bin");
    write(&weights, 1f32.to_le_bytes());
    write(&version.join("labels.txt"), "cat\ndog");
    let sums =
        || format!("{}  ./model.onnx\n{} *weights/all.bin\n", sha256(&version.join("model.onnx")), sha256(&weights));
    write(&version.join("SHA256SUMS"), sums());
    let server = Server::start(folder.path());
    assert_eq!(added(&server, "model").await.unwrap().0, 1.0);
    assert_eq!(server.count_log(|line| field(line, "warning").contains("SHA256SUMS does not list labels.txt")), 1);

    write(&weights, 2f32.to_le_bytes());
    server.wait_for_log(|line| field(line, "error").contains("weights/all.bin is not the file that line 2 lists"));
    assert_eq!(added(&server, "model").await.unwrap().0, 1.0);
    write(&version.join("SHA256SUMS"), sums());
    eventually("the new files serve", async || added(&server, "model").await.unwrap().0 == 2.0).await;
}

/// A case of `x + 1`: request and answer as HTTP has them.
fn case(x: Value, y: Value) -> Value {
    json!({
        "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 2], "data": x }],
        "outputs": [{ "name": "y", "datatype": "FP32", "shape": [1, 2], "data": y }],
    })
}

fn with(mut case: Value, key: &str, value: Value) -> Value {
    case[key] = value;
    case
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_test_case_is_reported() {
    let text = |contents: String| move |version: &Path| write(&version.join("tests/a.json"), &contents);
    let good = || case(json!([1, 2]), json!([2, 3]));
    let edited = |pointer: &str, value: Value| {
        let mut case = good();
        *case.pointer_mut(pointer).unwrap() = value;
        text(case.to_string())
    };
    all_say_why(&[
        (
            "element",
            &edited("/outputs/0/data", json!([2, 3.5])),
            &[
                "element/1/tests/a.json",
                "1 of 1",
                "output 'y'",
                "element 1 (at [0,1])",
                "expected 3.5, got 3",
                "1e-5 absolute plus 1e-3 relative",
            ],
        ),
        (
            "tolerance",
            &text(
                with(case(json!([1, 2]), json!([2, 3.001])), "tolerance", json!({ "relative": 0, "absolute": 1e-6 }))
                    .to_string(),
            ),
            &["expected 3.001, got 3", "1e-6 absolute plus 0e0 relative"],
        ),
        ("nan", &edited("/outputs/0/data", json!(["NaN", 3])), &["element 0", "expected NaN, got 2"]),
        (
            "infinity",
            &text(case(json!(["Infinity", 0]), json!(["-Infinity", 1])).to_string()),
            &["expected -inf, got inf"],
        ),
        ("shape", &edited("/outputs/0/shape", json!([2])), &["output 'y'", "expected shape [2], got [1,2]"]),
        (
            "count",
            &text(json!({ "inputs": good()["inputs"], "outputs": [{ "name": "y", "data": [2] }] }).to_string()),
            &["expected 1 elements, got shape [1,2]"],
        ),
        ("datatype", &edited("/outputs/0/datatype", json!("FP64")), &["expected datatype FP64, got FP32"]),
        ("unknown_output", &edited("/outputs/0/name", json!("z")), &["'z'", "its outputs are 'y'"]),
        ("unknown_input", &edited("/inputs/0/name", json!("z")), &["'z'", "its inputs are 'x'"]),
        ("input_shape", &edited("/inputs/0/shape", json!([1, 3])), &["input 'x'", "3 elements, data has 2"]),
        ("input_datatype", &edited("/inputs/0/datatype", json!("FLOAT")), &["unknown datatype 'FLOAT'", "FP32"]),
        (
            "key",
            &text(with(good(), "outputz", json!([])).to_string()),
            &["unknown key `outputz`", "did you mean `outputs`", "line 1"],
        ),
        ("no_outputs", &text(json!({ "inputs": [] }).to_string()), &["`outputs` is missing"]),
        (
            "no_data",
            &text(json!({ "inputs": good()["inputs"], "outputs": [{ "name": "y" }] }).to_string()),
            &["output 'y'", "no `data`"],
        ),
        ("not_json", &text("curl -s localhost:8000".into()), &["expected an object", "line 1 column 1"]),
        ("binary", &|version| write(&version.join("tests/a.json"), [0xff, 0xfe]), &["tests/a.json", "UTF-8"]),
        (
            "no_file",
            &|version| fs::create_dir_all(version.join("tests/a.json")).unwrap(),
            &["tests/a.json", "a folder, expected a file"],
        ),
        ("no_folder", &|version| write(&version.join("tests"), ""), &["no_folder/1/tests"]),
        (
            "many",
            &|version| {
                (0..257).for_each(|number| write(&version.join(format!("tests/{number}.json")), good().to_string()))
            },
            &["at most 256 test cases", "got 257"],
        ),
        (
            "several",
            &|version| {
                write(&version.join("tests/a.json"), good().to_string());
                for name in ["b", "c"] {
                    write(&version.join(format!("tests/{name}.json")), case(json!([1, 2]), json!([0, 0])).to_string());
                }
            },
            &["2 of 3 test cases failed", "tests/b.json", "tests/c.json"],
        ),
    ])
    .await;
}

/// A recording with curl is a test case: request and answer in one object.
#[tokio::test(flavor = "multi_thread")]
async fn recorded_requests_and_answers_pass() {
    let folder = TempDir::new().unwrap();
    let path = |model: &str, name: &str| -> PathBuf { folder.path().join(model).join("1").join(name) };
    const BYTES: i32 = 8;
    onnx::add(1.0).save(&path("floats", "model.onnx"));
    onnx::identity(onnx::INT64, &["n"]).save(&path("integers", "model.onnx"));
    onnx::identity(BYTES, &["n"]).save(&path("text", "model.onnx"));
    onnx::pair().save(&path("pair", "model.onnx"));
    let server = Server::start(folder.path());
    let input = |name: &str, datatype: &str, shape: Value, data: Value| json!({ "name": name, "datatype": datatype, "shape": shape, "data": data });
    for (model, inputs) in [
        ("floats", json!([input("x", "FP32", json!([2, 2]), json!([[0.1, "NaN"], ["Infinity", "-Infinity"]]))])),
        ("integers", json!([input("x", "INT64", json!([2]), json!([i64::MAX, i64::MIN]))])),
        ("text", json!([input("x", "BYTES", json!([2]), json!(["grüße", { "b64": "AP8=" }]))])),
        (
            "pair",
            json!([input("a", "FP32", json!([1, 2]), json!([1, 2])), input("b", "FP32", json!([1, 2]), json!([3, 4]))]),
        ),
    ] {
        let request = json!({ "id": "recorded", "inputs": inputs });
        let answer = post(server.http, &format!("/v2/models/{model}/infer"), request.to_string()).await;
        let answer = String::from_utf8(answer.body.to_vec()).unwrap();
        // Two objects into one, as text: NaN is no JSON that a library would read.
        let (request, rest) = (request.to_string(), answer.strip_prefix('{').unwrap());
        write(
            &path(model, "tests/recorded.json"),
            format!("{},{}", request.strip_suffix('}').unwrap(), rest.replace("\"id\":\"recorded\",", "")),
        );
        eventually("the version is loaded anew with its test case", async || {
            let metadata = get(server.http, &format!("/v2/models/{model}")).await.json();
            metadata["properties"]["generation"].as_str().is_some_and(|text| text.parse::<u64>().unwrap() > 4)
        })
        .await;
    }
    let failed = |line: &Value| line["level"] == "ERROR";
    assert_eq!(server.count_log(failed), 0);

    // A version that does not answer as its case says does not take over.
    onnx::add(5.0).save(&path("floats", "model.onnx"));
    server.wait_for_log(|line| line["is_serving"] == true && field(line, "error").contains("recorded.json"));
    assert_eq!(added(&server, "floats").await.unwrap().0, 1.0);
}
