//! Rows of a batch don't influence each other: generated models that mix rows, or are hard to follow, and what is made of them.

mod apart;
mod couplings;
mod graphs;
mod settings;

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};
use tempfile::TempDir;

use crate::support::{python, server::onnxd};

const REQUIREMENTS: &str = include_str!("../soak/requirements.txt");

/// Proven, since no batch holds a request with an empty axis, and its rows meet in such requests alone.
const MIXING_WITH_EMPTY_AXES: &str = "reshape_symbol_zero_is_copied";

/// Independent, and not proven: a Scan that turns over the rows is taken for a recurrence.
const NOT_PROVEN: [&str; 1] = ["scan_over_rows_without_state"];

/// Writes the models of a generator of `tests/models/rows` into a folder, as `NAME.onnx`.
fn generate(test: &str, generator: &str, folder: &Path) -> Option<()> {
    let packages = python::packages_of(test, REQUIREMENTS)?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/rows").join(generator);
    python::python(test, &packages, Command::new("python3").arg("-S").arg(script).arg(folder));
    Some(())
}

/// Versions by model, as `onnxd check --json` reports them.
fn checked(repository: &Path) -> BTreeMap<String, Value> {
    let output = onnxd().args(["check", "--json"]).arg(repository).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}: {errors}", output.status);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let versions = document["versions"].as_array().unwrap().iter();
    versions.map(|version| (version["model"].as_str().unwrap().to_owned(), version.clone())).collect()
}

/// Names of the models whose versions fit.
fn names(versions: &BTreeMap<String, Value>, fits: impl Fn(&Value) -> bool) -> BTreeSet<&str> {
    versions.iter().filter(|(_, version)| fits(version)).map(|(name, _)| &**name).collect()
}

fn is_batched(version: &Value) -> bool {
    version["batching"]["on"] == true
}

fn is_proven(version: &Value) -> bool {
    version["rows"]["verdict"] == "proven"
}

#[test]
fn mixing_models_are_not_batched() {
    let folder = TempDir::new().unwrap();
    for generator in ["mixing.py", "adversarial.py"] {
        let Some(()) = generate("mixing_models_are_not_batched", generator, folder.path()) else { return };
    }
    let versions = checked(folder.path());
    assert!(versions.len() >= 240, "{} models", versions.len());
    assert_eq!(names(&versions, |version| version["batching"]["on"].is_null()), BTreeSet::new(), "not loaded");
    let excepted = BTreeSet::from([MIXING_WITH_EMPTY_AXES]);
    assert_eq!(names(&versions, is_batched), excepted);
    assert_eq!(names(&versions, is_proven), excepted);
    // Each verdict says where the proof ended.
    let unexplained =
        |version: &Value| !is_proven(version) && version["rows"]["why"].as_str().is_none_or(str::is_empty);
    assert_eq!(names(&versions, unexplained), BTreeSet::new());
}

/// The probe finds what the proof does not decide: values, magnitudes and numbers of rows that show a coupling.
#[test]
fn mixing_models_fail_the_probe() {
    let (generated, repository) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    for generator in ["mixing.py", "adversarial.py"] {
        let Some(()) = generate("mixing_models_fail_the_probe", generator, generated.path()) else { return };
    }
    for entry in fs::read_dir(generated.path()).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "onnx") {
            let folder = repository.path().join(file.file_stem().unwrap());
            fs::create_dir_all(folder.join("1")).unwrap();
            fs::copy(&file, folder.join("1/model.onnx")).unwrap();
            fs::write(folder.join("config.toml"), "batching = \"probed\"").unwrap();
        }
    }
    let versions = checked(repository.path());
    assert!(versions.len() >= 240, "{} models", versions.len());
    assert_eq!(names(&versions, is_batched), BTreeSet::from([MIXING_WITH_EMPTY_AXES]));
}

#[test]
fn independent_models_are_proven() {
    let folder = TempDir::new().unwrap();
    let Some(()) = generate("independent_models_are_proven", "tricky.py", folder.path()) else { return };
    let versions = checked(folder.path());
    assert!(versions.len() >= 49, "{} models", versions.len());
    let not_proven = BTreeSet::from(NOT_PROVEN);
    assert_eq!(names(&versions, |version| !is_proven(version)), not_proven);
    assert_eq!(names(&versions, |version| !is_batched(version)), not_proven);
}

/// ONNX Runtime refuses some of these models, and the analysis follows none beyond its limits.
#[test]
fn malformed_models_end_nothing() {
    let folder = TempDir::new().unwrap();
    let Some(()) = generate("malformed_models_end_nothing", "malformed.py", folder.path()) else { return };
    let versions = checked(folder.path());
    assert!(versions.len() >= 32, "{} models", versions.len());
    let panicked = |version: &Value| version.to_string().contains("panicked");
    assert_eq!(names(&versions, panicked), BTreeSet::new());
}
