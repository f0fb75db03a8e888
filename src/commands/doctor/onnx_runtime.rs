//! Checks ONNX Runtime's library.

use serde_json::json;
use std::path::Path;

use super::report::Finding;
use crate::{
    engine::{Engine, version_of},
    ort_library::{self, Place, PlaceKind},
};

/// Findings about the library, and the engine if the library can be used.
pub(super) fn examine() -> (Vec<Finding>, Option<Engine>) {
    let places = ort_library::places();
    let path = match ort_library::locate() {
        Ok(path) => path,
        Err(why) => {
            let library = Finding::ok("library", why.to_string(), json!({ "path": null, "places": facts(&places) }));
            return (vec![library.problem()], None);
        }
    };
    let library = found(&path, &places);
    let version = version_of(&path).ok();
    let engine = match Engine::start(&path) {
        Ok(engine) => engine,
        Err(why) => {
            let version = Finding::ok("version", why, json!({ "version": version })).problem();
            return (vec![library, version], None);
        }
    };
    let text = version.clone().unwrap_or_else(|| "unknown".into());
    let build = engine.build_info();
    let findings = vec![
        library,
        Finding::ok("version", text, json!({ "version": version })),
        Finding::ok("build", build.trim_start_matches("ORT Build Info: "), json!({ "build_info": build })),
    ];
    (findings, Some(engine))
}

/// Finding about the library that is used, with the places before it where none was found.
fn found(path: &Path, places: &[Place]) -> Finding {
    let origin = places.iter().find(|place| place.found.as_deref() == Some(path)).map(|place| place.origin);
    let mut text = format!("{}, {}", path.display(), origin.map_or("found", describe));
    let vain = places.iter().take_while(|place| place.found.is_none()).flat_map(|place| &place.candidates);
    for path in vain {
        text.push_str(&format!("\nnot {}", path.display()));
    }
    Finding::ok("library", text, json!({ "path": path.to_string_lossy(), "places": facts(places) }))
}

fn describe(origin: PlaceKind) -> &'static str {
    match origin {
        PlaceKind::Named => "which ORT_DYLIB_PATH names",
        PlaceKind::NextToExecutable => "beside the executable",
        PlaceKind::Lib => "in ../lib from the executable",
        PlaceKind::CudaCache => "the build for GPUs, fetched",
        PlaceKind::Cache => "the build for CPUs, fetched",
    }
}

fn facts(places: &[Place]) -> Vec<serde_json::Value> {
    let looked =
        |path: &Path, found: Option<&Path>| json!({ "path": path.to_string_lossy(), "found": found == Some(path) });
    let all = places.iter().flat_map(|place| place.candidates.iter().map(|path| looked(path, place.found.as_deref())));
    all.collect()
}
