//! Advice for missing libraries: the origin of each, and how to get it.

use super::fetch::{self, Wheel};

/// The beginnings of libraries' names, and what to do where one is missing.
const ADVICE: &[(&[&str], &str)] = &[
    (
        &["libcuda.so"],
        "the NVIDIA driver: install version 580 or later, from your distribution or nvidia.com/drivers; a container gets the \
         host's by the NVIDIA Container Toolkit and `docker run --gpus all`",
    ),
    (&CUDA, "of CUDA: `onnxd runtime install --cuda` fetches it"),
    (&["libcudnn"], "of cuDNN: `onnxd runtime install --cuda` fetches it"),
    (
        &["libnvinfer", "libnvonnxparser"],
        "TensorRT 10 for CUDA 13: get `tensorrt-cu13-libs==10.*` by pip or see developer.nvidia.com/tensorrt, and name the folder \
         of its libraries in LD_LIBRARY_PATH",
    ),
    // PyPI has ONNX Runtime with it for one processor only.
    (&["libonnxruntime_providers_tensorrt."], TENSORRT_PROVIDER),
    (
        &["libonnxruntime_providers_"],
        "this is a build of ONNX Runtime without GPUs: `onnxd runtime install --cuda` fetches one for them",
    ),
    (&["libz."], "zlib, which cuDNN needs: install it from your distribution (on Debian: zlib1g)"),
];

const CUDA: [&str; 6] = ["libcudart.", "libcublas", "libcufft.", "libcurand.", "libnvrtc", "libnvJitLink."];

/// A build of ONNX Runtime that somebody has brought may be made for another CUDA than the one that is fetched.
const OTHER_CUDA: &str = "of another CUDA or cuDNN than `onnxd runtime install --cuda` fetches: install it, or run that and unset \
                          ORT_DYLIB_PATH, for an ONNX Runtime for CUDA 13 with all that it needs";

const TENSORRT_PROVIDER: &str = if cfg!(target_arch = "x86_64") {
    "this is a build of ONNX Runtime without TensorRT: `onnxd runtime install --cuda` fetches one with it"
} else {
    "this is a build of ONNX Runtime without TensorRT: PyPI has none with it for this processor, set ORT_DYLIB_PATH to one"
};

/// The library's origin and how to get it.
pub(super) fn advice(library: &str) -> &'static str {
    if library.starts_with("libcudnn") || CUDA.iter().any(|prefix| library.starts_with(prefix)) {
        let mut fetched = fetch::cuda_build("linux", "x86_64").into_iter().flat_map(|build| build.wheels);
        if !fetched.any(|wheel| Wheel::contents(wheel).any(|(_, name)| name == library)) {
            return OTHER_CUDA;
        }
    }
    let is_of = |(prefixes, _): &&(&[&str], &str)| prefixes.iter().any(|prefix| library.starts_with(prefix));
    ADVICE.iter().find(is_of).map_or("a library of the system: install it from your distribution", |(_, advice)| advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn library_advice_names_the_owning_package() {
        for (library, says) in [
            ("libcuda.so.1", "driver"),
            ("libcudart.so.13", "of CUDA"),
            ("libcublasLt.so.13", "of CUDA"),
            ("libcudart.so.12", "another CUDA"),
            ("libcudnn.so.8", "another CUDA"),
            ("libcudnn_graph.so.9", "cuDNN"),
            ("libnvrtc-builtins.so.13.0", "of CUDA"),
            ("libnvinfer.so.10", "tensorrt-cu13-libs"),
            ("libonnxruntime_providers_cuda.so", "without GPUs"),
            ("libonnxruntime_providers_shared.so", "without GPUs"),
            ("libonnxruntime_providers_tensorrt.so", "without TensorRT"),
            ("libz.so.1", "zlib1g"),
            ("libstdc++.so.6", "of the system"),
        ] {
            assert!(advice(library).contains(says), "{library}: {}", advice(library));
        }
    }
}
