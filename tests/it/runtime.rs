//! `onnxd runtime`: where ONNX Runtime is, what a provider for GPUs needs, and fetching it.

use serde_json::Value;
use std::{
    collections::BTreeSet,
    env, fs,
    path::Path,
    process::{Command, Output},
};
use tempfile::TempDir;

use crate::{
    cli::{ended, text},
    support::server::onnxd,
};
use onnxd::ort_library::fetch::{self, Build};

/// `onnxd runtime` with a cache of its own, and no library named.
pub fn runtime(cache: &Path, arguments: &[&str]) -> Command {
    let mut command = onnxd();
    command.env("ONNXD_CACHE_DIR", cache).env_remove("ORT_DYLIB_PATH").env_remove("LD_LIBRARY_PATH");
    command.arg("runtime").args(arguments);
    command
}

pub fn document(output: &Output) -> Value {
    assert!(output.stderr.is_empty(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The names of the libraries that a provider misses.
pub fn missing(document: &Value, provider: &str) -> Vec<String> {
    let missing = document["providers"][provider]["missing"].as_array().unwrap();
    missing.iter().map(|missing| missing["library"].as_str().unwrap().to_owned()).collect()
}

/// The build for GPUs; where PyPI has none for this platform, there is nothing to test.
fn cuda_build() -> Option<&'static Build> {
    fetch::cuda_build(env::consts::OS, env::consts::ARCH)
}

/// Makes a library of no content under its own name, which needs others that are in the folder too.
fn make(folder: &Path, name: &str, source: &str, needs: &[&str]) {
    fs::write(folder.join("source.c"), source).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.current_dir(folder).args(["-shared", "-fPIC", "-o", name, "source.c", "-Wl,--no-as-needed", "-L."]);
    gcc.arg(format!("-Wl,-soname,{name}")).args(needs.iter().map(|needed| format!("-l:{needed}")));
    assert!(gcc.status().unwrap().success());
}

#[test]
fn missing_runtime_is_reported_with_advice() {
    let cache = TempDir::new().unwrap();
    let output = ended(&mut runtime(cache.path(), &[]));
    assert_eq!(output.status.code(), Some(1));
    let reported = text(&output.stdout);
    assert!(reported.starts_with("ONNX Runtime: none") && reported.contains("onnxd runtime install"), "{reported}");

    let output = ended(&mut runtime(cache.path(), &["--json"]));
    assert_eq!(output.status.code(), Some(1));
    let document = document(&output);
    assert!(document["library"].is_null() && document["problem"].as_str().unwrap().contains("ORT_DYLIB_PATH"));
    assert_eq!(document["cache"], cache.path().to_str().unwrap());
    assert!(document["providers"].as_object().unwrap().is_empty());

    let mut command = runtime(cache.path(), &["--json"]);
    let document = self::document(&ended(command.env("ORT_DYLIB_PATH", "/no/such/library.so")));
    assert!(document["problem"].as_str().unwrap().contains("/no/such/library.so"), "{document}");
}

#[test]
fn gpu_build_goes_first_once_it_is_complete() {
    let Some(gpu) = cuda_build() else { return };
    let cpu = fetch::cpu_build(env::consts::OS, env::consts::ARCH).unwrap();
    let cache = TempDir::new().unwrap();
    let library = |build: &Build| build.library_path(cache.path());
    for build in [gpu, cpu] {
        fs::create_dir_all(build.folder(cache.path())).unwrap();
        fs::write(library(build), "").unwrap();
    }
    let (first, rest) = gpu.wheels.split_first().unwrap();
    rest.iter().for_each(|wheel| fs::write(gpu.folder(cache.path()).join(wheel.list()), "").unwrap());
    let show = || {
        let output = ended(&mut runtime(cache.path(), &[]));
        assert_eq!(output.status.code(), Some(0));
        text(&output.stdout).to_owned()
    };
    let reported = show();
    let first_line = |build: &Build| format!("ONNX Runtime: {}\n", library(build).display());
    assert!(reported.starts_with(&first_line(cpu)) && reported.contains("not whole"), "{reported}");
    assert!(
        reported.contains("libonnxruntime_providers_cuda.so (this is a build of ONNX Runtime without GPUs"),
        "{reported}"
    );

    fs::write(gpu.folder(cache.path()).join(first.list()), "").unwrap();
    let reported = show();
    assert!(reported.starts_with(&first_line(gpu)) && !reported.contains("not whole"), "{reported}");
}

/// Named each by itself, and found in the cache without a word of where they are.
#[test]
fn provider_libraries_are_found_or_named() {
    let Some(build) = cuda_build() else { return };
    let (folder, cache) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let library = folder.path().join("libonnxruntime.so");
    fs::write(&library, "").unwrap();
    fs::write(folder.path().join("libonnxruntime_providers_shared.so"), "").unwrap();
    let named = ["libcublas.so.13", "libcudart.so.13", "libcuda.so.1"];
    let later = ["libcudnn.so.9", "libcudnn_graph.so.9", "libcufft.so.12", "libnvrtc.so.13"];
    named.iter().for_each(|name| make(folder.path(), name, "", &[]));
    make(folder.path(), "libonnxruntime_providers_cuda.so", "", &named);
    named.iter().for_each(|name| fs::remove_file(folder.path().join(name)).unwrap());

    let command = || {
        let mut command = runtime(cache.path(), &["--json"]);
        command.env("ORT_DYLIB_PATH", &library);
        command
    };
    let reported = document(&ended(&mut command()));
    let all: Vec<_> = named.iter().chain(&later).copied().collect();
    let system = libraries_of_the_system();
    let expected: Vec<_> = all.iter().filter(|name| !system.contains(**name)).copied().collect();
    assert_eq!(missing(&reported, "cuda"), expected);
    let reported = reported["providers"]["cuda"]["missing"].to_string();
    for advice in ["`onnxd runtime install --cuda` fetches it", "580", "cannot open shared object file"] {
        assert!(reported.contains(advice), "{advice} is not in {reported}");
    }

    let cached = build.folder(cache.path());
    fs::create_dir_all(&cached).unwrap();
    all.iter().filter(|name| **name != "libcuda.so.1").for_each(|name| make(&cached, name, "", &[]));
    if !system.contains("libcuda.so.1") {
        assert_eq!(missing(&document(&ended(&mut command())), "cuda"), ["libcuda.so.1"]);
    }

    // The driver is the system's.
    let driver = TempDir::new().unwrap();
    make(driver.path(), "libcuda.so.1", "int cuDriverGetVersion(int *version) { *version = 13000; return 0; }", &[]);
    let reported = document(&ended(command().env("LD_LIBRARY_PATH", driver.path())));
    assert!(missing(&reported, "cuda").is_empty(), "{reported}");
    make(driver.path(), "libcuda.so.1", "int cuDriverGetVersion(int *version) { *version = 12040; return 0; }", &[]);
    let reported = document(&ended(command().env("LD_LIBRARY_PATH", driver.path())));
    let why = &reported["providers"]["cuda"]["missing"][0]["why"];
    assert_eq!(why, "it is for CUDA 12.4, and CUDA 13 is needed");
}

/// The names of the libraries that the loader knows.
pub fn libraries_of_the_system() -> BTreeSet<String> {
    let output = ["ldconfig", "/sbin/ldconfig"].iter().find_map(|path| Command::new(path).arg("-p").output().ok());
    let listed = output.map(|output| text(&output.stdout).to_owned()).unwrap_or_default();
    listed.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn failed_install_is_reported_and_leaves_no_build() {
    let Some(build) = cuda_build() else { return };
    let cache = TempDir::new().unwrap();
    // No index, and no folder of wheels.
    let mut command = runtime(cache.path(), &["install", "--cuda"]);
    let output =
        ended(command.env("PIP_NO_INDEX", "1").env_remove("PIP_FIND_LINKS").env("PIP_CONFIG_FILE", "/dev/null"));
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.code() == Some(1) && out.is_empty(), "{output:?}");
    let folder = build.folder(cache.path()).display().to_string();
    for says in ["on the disk then", folder.as_str(), "[1/8] nvidia-cublas", "onnxd: `", "No matching distribution"] {
        assert!(err.contains(says), "{says} is not in {err}");
    }
    let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);

    let output = ended(runtime(cache.path(), &["install"]).env("PATH", cache.path()));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no Python with pip was found"), "{output:?}");

    let file = cache.path().join("file");
    fs::write(&file, "").unwrap();
    let output = ended(&mut runtime(&file, &["install"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("Set ONNXD_CACHE_DIR"), "{output:?}");
}
