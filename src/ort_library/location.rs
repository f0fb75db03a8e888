//! Places where ONNX Runtime's library may be.

use std::env;
use std::ffi::OsString;
use std::path::{self, Path, PathBuf};

use super::fetch;

/// File names that the library may have beside the executable: the release's own first.
pub(super) const LIBRARY_NAMES: [&str; 2] = if cfg!(target_os = "macos") {
    ["libonnxruntime.1.31.1.dylib", "libonnxruntime.dylib"]
} else {
    ["libonnxruntime.so.1.31.1", "libonnxruntime.so"]
};

/// Kind of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceKind {
    /// `ORT_DYLIB_PATH` names it.
    Named,
    /// NextToExecutable the executable.
    NextToExecutable,
    /// In `../lib` from the executable, as in a container.
    Lib,
    /// In the user's cache directory: the build for GPUs, which [`fetch`] puts there.
    CudaCache,
    /// In the user's cache directory: the build for CPUs, which the build of this server puts there, or [`fetch`].
    Cache,
}

/// A place where the library may be.
#[derive(Debug)]
pub struct Place {
    /// Kind of the place.
    pub origin: PlaceKind,
    /// The paths that it may have there.
    pub candidates: Vec<PathBuf>,
    /// The one that it has.
    pub found: Option<PathBuf>,
}

impl Place {
    fn new(origin: PlaceKind, candidates: Vec<PathBuf>) -> Self {
        let found = candidates.iter().find(|path| path.is_file()).cloned();
        Place { origin, candidates, found }
    }
}

/// The places in the order in which they count. A library that somebody names goes first, then one beside the executable, and a
/// fetched one last. Of the fetched ones the build for GPUs goes first: nobody has it who has not asked for it, and it does all
/// that the other does. It counts only where all of it has come.
pub fn places() -> Vec<Place> {
    let executable = env::current_exe().and_then(|path| path.canonicalize()).ok();
    let cache = fetch::cache_directory();
    from(env::var_os("ORT_DYLIB_PATH"), executable.as_deref(), cache.as_deref())
}

pub(super) fn from(named: Option<OsString>, executable: Option<&Path>, cache: Option<&Path>) -> Vec<Place> {
    let mut places = Vec::new();
    if let Some(path) = named.filter(|path| !path.is_empty()).map(PathBuf::from) {
        // A bare file name would have the loader search the system's own directories instead.
        places.push(Place::new(PlaceKind::Named, vec![path::absolute(&path).unwrap_or(path)]));
    }
    let beside = executable.and_then(Path::parent);
    let lib = beside.and_then(Path::parent).map(|parent| parent.join("lib"));
    for (origin, directory) in [(PlaceKind::NextToExecutable, beside), (PlaceKind::Lib, lib.as_deref())] {
        let candidates = directory.map(|directory| LIBRARY_NAMES.map(|name| directory.join(name)).to_vec());
        places.extend(candidates.map(|candidates| Place::new(origin, candidates)));
    }
    let Some(cache) = cache else { return places };
    if let Some(build) = fetch::cuda_build(env::consts::OS, env::consts::ARCH) {
        let library = build.library_path(cache);
        let found = build.is_complete(cache).then(|| library.clone());
        places.push(Place { origin: PlaceKind::CudaCache, candidates: vec![library], found });
    }
    if let Some(build) = fetch::cpu_build(env::consts::OS, env::consts::ARCH) {
        places.push(Place::new(PlaceKind::Cache, vec![build.library_path(cache)]));
    }
    places
}
