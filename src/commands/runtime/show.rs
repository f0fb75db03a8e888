//! Shows the library of ONNX Runtime that would be used, its origin, and missing libraries of its providers.

use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use crate::{
    commands::output::print,
    ort_library::{self, Missing, Place, PlaceKind, ProviderLibrary, fetch},
};

/// Providers that need further libraries, by their names for programs and for people.
const PROVIDERS: [(&str, &str, ProviderLibrary); 2] =
    [("cuda", "CUDA", ProviderLibrary::Cuda), ("tensorrt", "TensorRT", ProviderLibrary::TensorRt)];

/// The library, the places that are searched, and missing libraries.
struct LibraryReport {
    library: Result<PathBuf, String>,
    places: Vec<Place>,
    /// Missing libraries of each of [`PROVIDERS`]; empty without a library.
    missing: Vec<Vec<Missing>>,
}

/// Prints the library and its places. Success means that there is a library.
pub(super) fn show(as_json: bool) -> Result<ExitCode, String> {
    let library = ort_library::locate().map_err(|error| error.to_string());
    let of = |path: &Path| PROVIDERS.iter().map(|(_, _, provider)| ort_library::prepare(path, *provider)).collect();
    let missing = library.as_deref().map(of).unwrap_or_default();
    let found = LibraryReport { library, places: ort_library::places(), missing };
    print(format!("{}\n", if as_json { format!("{:#}", document(&found)) } else { text(&found) }))?;
    Ok(if found.library.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn document(found: &LibraryReport) -> Value {
    let place = |place: &Place| {
        let origin = match place.origin {
            PlaceKind::Named => "ORT_DYLIB_PATH",
            PlaceKind::NextToExecutable => "executable",
            PlaceKind::Lib => "lib",
            PlaceKind::CudaCache => "cache-cuda",
            PlaceKind::Cache => "cache",
        };
        json!({ "origin": origin, "paths": place.candidates, "found": place.found })
    };
    let missing =
        |missing: &Missing| json!({ "library": missing.library, "why": missing.why, "advice": missing.advice });
    let mut providers = json!({});
    for ((name, ..), all) in PROVIDERS.iter().zip(&found.missing) {
        providers[*name] = json!({ "missing": all.iter().map(missing).collect::<Vec<_>>() });
    }
    json!({
        "library": found.library.as_ref().ok(),
        "problem": found.library.as_ref().err(),
        "cache": fetch::cache_directory(),
        "places": found.places.iter().map(place).collect::<Vec<_>>(),
        "providers": providers,
    })
}

fn text(found: &LibraryReport) -> String {
    let mut text = match &found.library {
        Ok(path) => format!("ONNX Runtime: {}\n\nLooked for, in order:", path.display()),
        Err(why) => return format!("ONNX Runtime: none\n\n{why}"),
    };
    for place in &found.places {
        let name = match place.origin {
            PlaceKind::Named => "ORT_DYLIB_PATH",
            PlaceKind::NextToExecutable => "beside the executable",
            PlaceKind::Lib => "../lib from there",
            PlaceKind::CudaCache => "cache, for CUDA",
            PlaceKind::Cache => "cache, for CPUs",
        };
        let is_used = found.library.as_ref().ok() == place.found.as_ref();
        let state = if is_used { "used" } else { state(place) };
        let _ = write!(text, "\n  {name:22} {state:9} ");
        if let Some(path) = place.found.as_ref().or(place.candidates.first()) {
            let _ = write!(text, "{}", path.display());
        }
    }
    for ((_, name, _), missing) in PROVIDERS.iter().zip(&found.missing) {
        let _ = match missing.as_slice() {
            [] => write!(text, "\n\n{name}: every library that its provider needs can be loaded"),
            _ => write!(text, "\n\n{name}: its provider can't be loaded. Missing:"),
        };
        for missing in missing {
            let _ = write!(text, "\n  {missing}");
        }
    }
    text
}

fn state(place: &Place) -> &'static str {
    let folder_is_there = || place.candidates.iter().any(|path| path.parent().is_some_and(Path::is_dir));
    match place.found {
        Some(_) => "there",
        // An install has begun and is not complete.
        None if place.origin == PlaceKind::CudaCache && folder_is_there() => "not whole",
        None => "none",
    }
}
