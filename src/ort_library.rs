//! Finds ONNX Runtime's library, and settles its requirements before it is loaded.

use std::env;
use std::fmt;
use std::path::PathBuf;

mod advice;
mod elf_dependencies;
pub mod fetch;
mod libraries;
mod location;

pub use libraries::{Missing, ProviderLibrary, prepare};
use location::LIBRARY_NAMES;
pub use location::{Place, PlaceKind, places};

/// Finds the library: the one that `ORT_DYLIB_PATH` names, else the first that is in one of [`places`].
pub fn locate() -> Result<PathBuf, NotFound> {
    first(places())
}

fn first(places: Vec<Place>) -> Result<PathBuf, NotFound> {
    let mut candidates = Vec::new();
    for place in places {
        match (place.origin, place.found) {
            (_, Some(path)) => return Ok(path),
            // A user who names one wants no other.
            (PlaceKind::Named, None) => return Err(NotFound::Named(place.candidates.into_iter().collect())),
            (_, None) => candidates.extend(place.candidates),
        }
    }
    Err(NotFound::Anywhere(candidates))
}

/// ONNX Runtime's library is nowhere that it is looked for. The text names every way to mend that.
#[derive(Debug)]
pub enum NotFound {
    /// `ORT_DYLIB_PATH` names no file: the path.
    Named(PathBuf),
    /// It is in none of these places, all of which were searched.
    Anywhere(Vec<PathBuf>),
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = match self {
            Self::Named(path) => return write!(f, "ORT_DYLIB_PATH is {}, which is not a file", path.display()),
            Self::Anywhere(places) => places,
        };
        let [name, _] = LIBRARY_NAMES;
        writeln!(f, "the library of ONNX Runtime {} ({name}) was not found. Looked for:", fetch::VERSION)?;
        for place in places {
            writeln!(f, "  {}", place.display())?;
        }
        writeln!(f, "Do one of these:")?;
        writeln!(f, "- set ORT_DYLIB_PATH to the library of an ONNX Runtime 1.31")?;
        writeln!(f, "- put the library beside the executable, or into ../lib from there")?;
        write!(
            f,
            "- run `onnxd runtime install` where `python3 -m pip --version` works and pip reaches a package index"
        )?;
        if let Some([wheel]) = fetch::cpu_build(env::consts::OS, env::consts::ARCH).map(|build| build.wheels) {
            write!(
                f,
                "\n- download it:\n  python3 -m pip install --target onnxruntime --no-deps --only-binary=:all: \
                 --python-version 311 --implementation cp --abi cp311 --platform {} onnxruntime=={}\n  \
                 export ORT_DYLIB_PATH=$PWD/onnxruntime/onnxruntime/capi/{name}",
                wheel.platform,
                fetch::VERSION,
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for NotFound {}

/// Turns off the reports that ONNX Runtime's official builds send to Microsoft when a session is created. It reads
/// this from the environment when it is loaded.
///
/// Must be the first thing that `main` does: no other thread may run yet.
#[allow(unsafe_code, reason = "the library has no other switch that acts before it is loaded")]
pub fn disable_telemetry() {
    const VARIABLE: &str = "ORT_DISABLE_TELEMETRY";
    if env::var_os(VARIABLE).is_none_or(|value| value != "1") {
        // SAFETY: the only thread is the one that runs this, as said above, so nothing else reads or writes the
        // environment meanwhile.
        unsafe { env::set_var(VARIABLE, "1") }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn library_search_returns_the_first_in_order() {
        let root = env::temp_dir().join(format!("onnxd-locate-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let cache = root.join("cache");
        let builds = [fetch::cpu_build, fetch::cuda_build].map(|build| build(env::consts::OS, env::consts::ARCH));
        let libraries: Vec<_> = builds.iter().flatten().map(|build| build.library_path(&cache)).collect();
        let (beside, lib) = (root.join("bin"), root.join("lib"));
        let folders = libraries.iter().filter_map(|path| path.parent()).chain([beside.as_path(), lib.as_path()]);
        folders.for_each(|folder| fs::create_dir_all(folder).unwrap());
        let executable = beside.join("onnxd");
        let [exact, plain] = LIBRARY_NAMES;
        let find = |named: Option<&Path>| {
            first(location::from(named.map(Into::into), Some(&executable), Some(cache.as_path())))
        };

        let message = find(None).unwrap_err().to_string();
        let wanted = [&beside, &lib, &cache];
        let advice = ["ORT_DYLIB_PATH", "onnxd runtime install"];
        for place in wanted.iter().map(|path| path.to_str().unwrap()).chain(advice) {
            assert!(message.contains(place), "{place} is missing from: {message}");
        }

        // From the last place to the first: each goes before those that are there already.
        for (build, library) in builds.iter().flatten().zip(&libraries) {
            let before = find(None).ok();
            fs::write(library, "").unwrap();
            for wheel in build.wheels {
                // The build for CPUs is trusted by its name, as it was put there before there were lists.
                let counts = build.name == "onnxruntime";
                assert_eq!(find(None).ok(), if counts { Some(library.clone()) } else { before.clone() });
                fs::write(library.with_file_name(wheel.list()), "").unwrap();
            }
            assert_eq!(&find(None).unwrap(), library);
        }
        let named = root.join("named.so");
        for path in [&lib.join(plain), &lib.join(exact), &beside.join(plain), &beside.join(exact)] {
            fs::write(path, "").unwrap();
            assert_eq!(&find(None).unwrap(), path);
        }
        assert!(matches!(find(Some(&named)), Err(NotFound::Named(path)) if path == named));
        fs::write(&named, "").unwrap();
        assert_eq!(find(Some(&named)).unwrap(), named);
        assert_eq!(find(Some(Path::new(""))).unwrap(), beside.join(exact));
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn library_names_match_the_pinned_release() {
        for build in [fetch::cpu_build, fetch::cuda_build] {
            if let Some(build) = build(env::consts::OS, env::consts::ARCH) {
                assert_eq!(build.library, LIBRARY_NAMES[0]);
            }
        }
    }
}
