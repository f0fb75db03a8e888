//! Fetches the ONNX Runtime library for the platform that is built for, so that the server runs with no manual step.

#[allow(dead_code, unreachable_pub, unused_imports, reason = "the server uses the rest of it")]
#[path = "../src/ort_library/fetch.rs"]
mod fetch;

use std::env;

/// Puts the library where the server looks for it. Where that fails, the build goes on with a warning: the server can
/// be built on one machine and find its library on another.
pub(crate) fn fetch_for_target() {
    for variable in ["ORT_DYLIB_PATH", "ONNXD_CACHE_DIR", "XDG_CACHE_HOME", "HOME"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let is_set = |variable| env::var_os(variable).is_some_and(|value| !value.is_empty());
    // docs.rs builds without a network, and runs nothing.
    if is_set("ORT_DYLIB_PATH") || is_set("DOCS_RS") {
        return;
    }
    if let Err(reason) = try_fetch() {
        for (index, line) in reason.lines().enumerate() {
            println!("cargo::warning={}{line}", if index == 0 { "ONNX Runtime was not fetched: " } else { "" });
        }
    }
}

fn try_fetch() -> Result<(), String> {
    let target = |name| env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    let (os, arch, environment) = (target("OS"), target("ARCH"), target("ENV"));
    let build = fetch::cpu_build(&os, &arch).filter(|_| environment != "musl").ok_or_else(|| {
        format!("PyPI has no library for {os} {arch} {environment}\nSet ORT_DYLIB_PATH to one you have")
    })?;
    let cache = fetch::cache_directory()
        .ok_or("there is no home directory to keep it in\nSet ONNXD_CACHE_DIR to a directory that can be written")?;
    // Watched also where it is missing, which has Cargo run this again at the next build.
    println!("cargo::rerun-if-changed={}", build.library_path(&cache).display());
    fetch::install(build, &cache, &mut |_| ()).map(drop).map_err(|error| error.to_string())
}
