//! Pinned builds of ONNX Runtime, each with the wheels on PyPI that it is made of.
//!
//! A wheel is pinned, not each file in it: its SHA-256 covers all that it holds, and anybody can hold this list against
//! PyPI's pages.

use super::{
    build::{Build, VERSION, Wheel},
    cuda,
};

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
