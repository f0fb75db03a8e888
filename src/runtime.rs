//! Where ONNX Runtime's library is, and what has to be settled before it is loaded.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{self, Path, PathBuf};

pub mod fetch;

/// File names that the library may have beside the executable: the release's own first.
const LIBRARY_NAMES: [&str; 2] = if cfg!(target_os = "macos") {
    ["libonnxruntime.1.31.1.dylib", "libonnxruntime.dylib"]
} else {
    ["libonnxruntime.so.1.31.1", "libonnxruntime.so"]
};

/// Finds the library: the one that `ORT_DYLIB_PATH` names, else one beside the executable, or in `../lib` from there
/// (as in a container), or in the user's cache directory, where the build puts it.
pub fn locate() -> Result<PathBuf, NotFound> {
    let executable = env::current_exe().and_then(|path| path.canonicalize()).ok();
    let cached = fetch::cache_directory()
        .zip(fetch::wheel_for(env::consts::OS, env::consts::ARCH))
        .map(|(cache, wheel)| fetch::library_path(&cache, wheel));
    search(env::var_os("ORT_DYLIB_PATH"), executable.as_deref(), cached)
}

fn search(named: Option<OsString>, executable: Option<&Path>, cached: Option<PathBuf>) -> Result<PathBuf, NotFound> {
    if let Some(path) = named.filter(|path| !path.is_empty()).map(PathBuf::from) {
        // A bare file name would have the loader search the system's own directories instead.
        let path = path::absolute(&path).unwrap_or(path);
        return if path.is_file() { Ok(path) } else { Err(NotFound::Named(path)) };
    }
    let beside = executable.and_then(Path::parent);
    let lib = beside.and_then(Path::parent).map(|parent| parent.join("lib"));
    let candidates: Vec<PathBuf> = [beside, lib.as_deref()]
        .into_iter()
        .flatten()
        .flat_map(|directory| LIBRARY_NAMES.map(|name| directory.join(name)))
        .chain(cached)
        .collect();
    match candidates.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(NotFound::Anywhere(candidates)),
    }
}

/// ONNX Runtime's library is nowhere that it is looked for. The text names every way to mend that.
#[derive(Debug)]
pub enum NotFound {
    /// `ORT_DYLIB_PATH` names no file: the path.
    Named(PathBuf),
    /// It is in no place: those that were looked at.
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
        write!(f, "- run `cargo build` where `python3 -m pip --version` works and pip reaches a package index")?;
        if let Some(wheel) = fetch::wheel_for(env::consts::OS, env::consts::ARCH) {
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

    use super::*;

    #[test]
    fn the_first_library_in_order_is_found() {
        let root = env::temp_dir().join(format!("onnxd-locate-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for directory in ["bin", "lib", "cache"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        let executable = root.join("bin/onnxd");
        let [exact, plain] = LIBRARY_NAMES;
        let cached = root.join("cache").join(exact);
        let find = |named: Option<&Path>| search(named.map(Into::into), Some(&executable), Some(cached.clone()));

        let message = find(None).unwrap_err().to_string();
        let wanted = [root.join("bin"), root.join("lib"), root.join("cache")];
        for place in wanted.iter().map(|path| path.to_str().unwrap()).chain(["ORT_DYLIB_PATH", "cargo build"]) {
            assert!(message.contains(place), "{place} is missing from: {message}");
        }

        // From the last place to the first: each goes before those that are there already.
        let (lib, beside) = (root.join("lib"), root.join("bin"));
        let named = root.join("named.so");
        for path in [&cached, &lib.join(plain), &lib.join(exact), &beside.join(plain), &beside.join(exact)] {
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
    fn the_names_are_those_of_the_pinned_release() {
        if let Some(wheel) = fetch::wheel_for(env::consts::OS, env::consts::ARCH) {
            assert_eq!(wheel.library, LIBRARY_NAMES[0]);
        }
    }
}
