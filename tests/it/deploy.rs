//! Deployment files follow the rules of their kind, and fit what the server has: the Dockerfile, the manifests of Kubernetes,
//! the unit of systemd.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

use crate::{
    cli::{ended, text},
    support::{
        client::get,
        onnx, python,
        server::{Server, onnxd},
    },
};

const REQUIREMENTS: &str = include_str!("../python/deploy_requirements.txt");

/// Variables that are no settings of the server, but of commands and of the build.
const OTHERS: [&str; 3] = ["ONNXD_CACHE_DIR", "ONNXD_TOKEN_FILE", "ONNXD_URL"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Dockerfile, compose files, manifests and units, with their texts.
fn files() -> Vec<(PathBuf, String)> {
    let mut files = vec![root().join("Dockerfile")];
    let mut folders = vec![root().join("deploy")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let fits = |extension: &std::ffi::OsStr| extension == "yaml" || extension == "service";
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(fits) {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 10, "the files were not found");
    let with_text = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path, text)
    };
    files.into_iter().map(with_text).collect()
}

/// The words in a text that begin with `prefix` and go on.
pub fn words<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    text.split(|character| !word(character))
        .filter(|found| found.len() > prefix.len() && found.starts_with(prefix))
        .collect()
}

#[test]
fn deploy_variables_are_settings() {
    let output = ended(onnxd().args(["serve", "--help"]));
    let help = text(&output.stdout);
    let known: BTreeSet<_> = words(help, "ONNXD_").into_iter().chain(OTHERS).collect();
    for (path, text) in files() {
        let unknown: Vec<_> = words(&text, "ONNXD_").into_iter().filter(|name| !known.contains(name)).collect();
        assert!(unknown.is_empty(), "{}: the server has no {unknown:?}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn autoscaler_metrics_are_exported() {
    let repository = TempDir::new().unwrap();
    onnx::add(1.0).save(&repository.path().join("add/1/model.onnx"));
    let server = Server::start(repository.path());
    let scraped = get(server.metrics, "/metrics").await.body;
    let exported = text(&scraped);
    let rule = fs::read_to_string(root().join("deploy/kubernetes/prometheus-adapter.yaml")).unwrap();
    let series: Vec<_> = words(&rule, "onnxd_").into_iter().filter(|name| !name.ends_with("_per_request")).collect();
    assert!(!series.is_empty());
    for name in series {
        assert!(exported.lines().any(|line| line.starts_with(&format!("{name}{{"))), "{name} is not exported");
    }
}

#[test]
fn dockerfile_passes_hadolint() {
    const TEST: &str = "dockerfile_passes_hadolint";
    let Some(packages) = python::packages_of(TEST, REQUIREMENTS) else { return };
    let output = Command::new(packages.join("bin/hadolint")).arg(root().join("Dockerfile")).output().unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn kubernetes_manifests_are_valid_and_consistent() {
    const TEST: &str = "kubernetes_manifests_are_valid_and_consistent";
    let Some(packages) = python::packages_of(TEST, REQUIREMENTS) else { return };
    let folder = root().join("deploy/kubernetes");
    let printed = python::run_with(TEST, &packages, "manifests.py", &[folder.to_str().unwrap()]);
    // Skips of the script are reported, as skips of this test are.
    for line in printed.lines().filter(|line| line.starts_with("SKIPPED")) {
        let _ = writeln!(io::stderr(), "{TEST}: {line}");
    }
}

/// Systems have systemd or not; where they have not, that is no failure even where tools are required.
#[test]
fn systemd_unit_passes_systemd_analyze() {
    let folder = TempDir::new().unwrap();
    let unit = folder.path().join("onnxd.service");
    let text_of_unit = fs::read_to_string(root().join("deploy/systemd/onnxd.service")).unwrap();
    // It must name an executable that is there.
    fs::write(&unit, text_of_unit.replace("/usr/local/bin/onnxd", env!("CARGO_BIN_EXE_onnxd"))).unwrap();
    let analyze = |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).arg(&unit).output();
    let Ok(verified) = analyze(&["verify", "--man=no", "--recursive-errors=no"]) else {
        let _ = writeln!(io::stderr(), "SKIPPED systemd_unit_passes_systemd_analyze: there is no systemd-analyze");
        return;
    };
    assert!(verified.status.success() && verified.stderr.is_empty(), "{verified:?}");
    // From 0 (nothing can be done from it) to 100 (everything).
    let secure = analyze(&["security", "--offline=true", "--no-pager", "--threshold=15"]).unwrap();
    assert!(secure.status.success(), "{}", text(&secure.stdout));
}
