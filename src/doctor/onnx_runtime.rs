//! ONNX Runtime's library.

use serde_json::json;
use std::path::PathBuf;

use super::report::Finding;
use crate::{
    engine::{Engine, version_of},
    runtime,
};

/// What is told of the library; and the library itself, where it can be used.
pub(super) fn examine() -> (Vec<Finding>, Option<(PathBuf, Engine)>) {
    let path = match runtime::locate() {
        Ok(path) => path,
        Err(why) => return (vec![Finding::ok("library", why.to_string(), json!({ "path": null })).problem()], None),
    };
    let library = Finding::ok("library", path.display().to_string(), json!({ "path": path.to_string_lossy() }));
    let version = version_of(&path).ok();
    let engine = match Engine::start(&path) {
        Ok(engine) => engine,
        Err(why) => {
            let version = Finding::ok("version", why, json!({ "version": version })).problem();
            return (vec![library, version], None);
        }
    };
    let told = version.clone().unwrap_or_else(|| "unknown".into());
    let build = engine.build_info();
    let findings = vec![
        library,
        Finding::ok("version", told, json!({ "version": version })),
        Finding::ok("build", build.trim_start_matches("ORT Build Info: "), json!({ "build_info": build })),
    ];
    (findings, Some((path, engine)))
}
