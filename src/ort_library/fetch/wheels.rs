//! What is fetched: builds of ONNX Runtime, each with the wheels on PyPI that it is made of.
//!
//! A wheel is pinned, not each file in it: its SHA-256 covers all that it holds, and anybody can hold this list against
//! PyPI's pages.

use std::path::{Path, PathBuf};

use super::{VERSION, cuda};

/// A build of ONNX Runtime for one platform, with the libraries that it needs beside the system's.
#[derive(Debug)]
pub struct Build {
    /// What its folder is called, before the version and the platform.
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

/// A wheel, and what is taken out of it.
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

    /// Whether all of it is in a cache. Files are not looked into: what is listed was found right before.
    pub fn is_complete(&self, cache: &Path) -> bool {
        let folder = self.folder(cache);
        self.wheels.iter().all(|wheel| folder.join(wheel.list()).is_file()) && folder.join(self.library).is_file()
    }
}

impl Wheel {
    /// File name of the list of what was taken out of it.
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

/// The build for CPUs of a platform, named as in `std::env::consts`; `None` where PyPI has none.
pub fn cpu_build(os: &str, arch: &str) -> Option<&'static Build> {
    CPU_BUILDS.iter().find(|build| build.os == os && build.arch == arch)
}

/// The build for NVIDIA's GPUs of a platform, named as in `std::env::consts`; `None` where PyPI has none.
pub fn cuda_build(os: &str, arch: &str) -> Option<&'static Build> {
    cuda::BUILDS.iter().find(|build| build.os == os && build.arch == arch)
}

const LINUX: &[&str] =
    &["onnxruntime/LICENSE", "onnxruntime/ThirdPartyNotices.txt", "onnxruntime/capi/libonnxruntime.so.1.31.1"];

const MACOS: &[&str] =
    &["onnxruntime/LICENSE", "onnxruntime/ThirdPartyNotices.txt", "onnxruntime/capi/libonnxruntime.1.31.1.dylib"];

const CPU_BUILDS: &[Build] = &[
    Build {
        name: "onnxruntime",
        os: "linux",
        arch: "x86_64",
        library: "libonnxruntime.so.1.31.1",
        wheels: &[Wheel {
            package: "onnxruntime",
            version: VERSION,
            platform: "manylinux_2_28_x86_64",
            sha256: "5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f",
            size: 23_753_652,
            unpacked: 29_691_361,
            files: LINUX,
        }],
    },
    Build {
        name: "onnxruntime",
        os: "linux",
        arch: "aarch64",
        library: "libonnxruntime.so.1.31.1",
        wheels: &[Wheel {
            package: "onnxruntime",
            version: VERSION,
            platform: "manylinux_2_28_aarch64",
            sha256: "da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3",
            size: 21_413_526,
            unpacked: 25_604_201,
            files: LINUX,
        }],
    },
    Build {
        name: "onnxruntime",
        os: "macos",
        arch: "aarch64",
        library: "libonnxruntime.1.31.1.dylib",
        wheels: &[Wheel {
            package: "onnxruntime",
            version: VERSION,
            platform: "macosx_14_0_arm64",
            sha256: "60b6b69bfe580eab576cacc5d132a0e9cf2a37fcfd18d46dd191042b1d1ed0d7",
            size: 20_871_676,
            unpacked: 33_376_497,
            files: MACOS,
        }],
    },
];
