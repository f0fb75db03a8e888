//! The builds for NVIDIA's GPUs: ONNX Runtime's with its providers for CUDA and TensorRT, and what the one for CUDA needs.
//!
//! It is built with CUDA 13.0, and these are CUDA 13.0's libraries: newer ones would do, but the first driver that has CUDA 13
//! (580) runs these without falling back on its compatibility with later ones. cuFFT opens nvJitLink, and NVRTC its builtins,
//! when they need them. TensorRT's libraries, which are larger than all of this, are left to those who want them.

use super::build::{Build, VERSION, Wheel};

const CUBLAS: &[&str] = &[
    "nvidia_cublas-13.1.0.3.dist-info/licenses/License.txt",
    "nvidia/cu13/lib/libcublas.so.13",
    "nvidia/cu13/lib/libcublasLt.so.13",
];

const CUDA_RUNTIME: &[&str] =
    &["nvidia_cuda_runtime-13.0.96.dist-info/licenses/License.txt", "nvidia/cu13/lib/libcudart.so.13"];

const NVRTC: &[&str] = &[
    "nvidia_cuda_nvrtc-13.0.88.dist-info/licenses/License.txt",
    "nvidia/cu13/lib/libnvrtc-builtins.so.13.0",
    "nvidia/cu13/lib/libnvrtc.so.13",
];

const NVJITLINK: &[&str] =
    &["nvidia_nvjitlink-13.0.88.dist-info/licenses/License.txt", "nvidia/cu13/lib/libnvJitLink.so.13"];

const CURAND: &[&str] = &["nvidia_curand-10.4.0.35.dist-info/licenses/License.txt", "nvidia/cu13/lib/libcurand.so.10"];

const CUFFT: &[&str] = &["nvidia_cufft-12.0.0.61.dist-info/licenses/License.txt", "nvidia/cu13/lib/libcufft.so.12"];

const CUDNN: &[&str] = &[
    "nvidia_cudnn_cu13-9.19.0.56.dist-info/licenses/License.txt",
    "nvidia/cudnn/lib/libcudnn.so.9",
    "nvidia/cudnn/lib/libcudnn_adv.so.9",
    "nvidia/cudnn/lib/libcudnn_cnn.so.9",
    "nvidia/cudnn/lib/libcudnn_engines_precompiled.so.9",
    "nvidia/cudnn/lib/libcudnn_engines_runtime_compiled.so.9",
    "nvidia/cudnn/lib/libcudnn_graph.so.9",
    "nvidia/cudnn/lib/libcudnn_heuristic.so.9",
    "nvidia/cudnn/lib/libcudnn_ops.so.9",
];

const ONNX_RUNTIME_X86_64: &[&str] = &[
    "onnxruntime/LICENSE",
    "onnxruntime/ThirdPartyNotices.txt",
    "onnxruntime/capi/libonnxruntime_providers_cuda.so",
    "onnxruntime/capi/libonnxruntime_providers_shared.so",
    "onnxruntime/capi/libonnxruntime_providers_tensorrt.so",
    "onnxruntime/capi/libonnxruntime.so.1.31.1",
];

/// This wheel has no provider for TensorRT.
const ONNX_RUNTIME_AARCH64: &[&str] = &[
    "onnxruntime/LICENSE",
    "onnxruntime/ThirdPartyNotices.txt",
    "onnxruntime/capi/libonnxruntime_providers_cuda.so",
    "onnxruntime/capi/libonnxruntime_providers_shared.so",
    "onnxruntime/capi/libonnxruntime.so.1.31.1",
];

pub(super) const BUILDS: &[Build] = &[
    Build {
        name: "onnxruntime-gpu",
        os: "linux",
        arch: "x86_64",
        library: "libonnxruntime.so.1.31.1",
        wheels: &[
            Wheel {
                package: "nvidia-cublas",
                version: "13.1.0.3",
                platform: "manylinux_2_27_x86_64",
                sha256: "ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171",
                size: 423_133_236,
                unpacked: 595_832_838,
                files: CUBLAS,
            },
            Wheel {
                package: "nvidia-cuda-runtime",
                version: "13.0.96",
                platform: "manylinux_2_17_x86_64",
                sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
                size: 2_243_632,
                unpacked: 763_550,
                files: CUDA_RUNTIME,
            },
            Wheel {
                package: "nvidia-cuda-nvrtc",
                version: "13.0.88",
                platform: "manylinux_2_12_x86_64",
                sha256: "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",
                size: 90_215_200,
                unpacked: 113_777_942,
                files: NVRTC,
            },
            Wheel {
                package: "nvidia-nvjitlink",
                version: "13.0.88",
                platform: "manylinux_2_12_x86_64",
                sha256: "13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b",
                size: 40_713_933,
                unpacked: 98_865_998,
                files: NVJITLINK,
            },
            Wheel {
                package: "nvidia-curand",
                version: "10.4.0.35",
                platform: "manylinux_2_27_x86_64",
                sha256: "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc",
                size: 59_544_258,
                unpacked: 132_757_590,
                files: CURAND,
            },
            Wheel {
                package: "nvidia-cufft",
                version: "12.0.0.61",
                platform: "manylinux_2_17_x86_64",
                sha256: "6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3",
                size: 214_085_489,
                unpacked: 286_601_614,
                files: CUFFT,
            },
            Wheel {
                package: "nvidia-cudnn-cu13",
                version: "9.19.0.56",
                platform: "manylinux_2_27_x86_64",
                sha256: "d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf",
                size: 366_066_321,
                unpacked: 493_428_398,
                files: CUDNN,
            },
            Wheel {
                package: "onnxruntime-gpu",
                version: VERSION,
                platform: "manylinux_2_28_x86_64",
                sha256: "e26c475fe361b2015f45b4b824bd13f0bb20204e59b62814e6f0acd5f3d491a6",
                size: 255_560_985,
                unpacked: 314_785_345,
                files: ONNX_RUNTIME_X86_64,
            },
        ],
    },
    Build {
        name: "onnxruntime-gpu",
        os: "linux",
        arch: "aarch64",
        library: "libonnxruntime.so.1.31.1",
        wheels: &[
            Wheel {
                package: "nvidia-cublas",
                version: "13.1.0.3",
                platform: "manylinux_2_27_aarch64",
                sha256: "c86fc7f7ae36d7528288c5d88098edcb7b02c633d262e7ddbb86b0ad91be5df2",
                size: 542_851_226,
                unpacked: 691_907_238,
                files: CUBLAS,
            },
            Wheel {
                package: "nvidia-cuda-runtime",
                version: "13.0.96",
                platform: "manylinux_2_17_aarch64",
                sha256: "ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55",
                size: 2_261_060,
                unpacked: 767_014,
                files: CUDA_RUNTIME,
            },
            Wheel {
                package: "nvidia-cuda-nvrtc",
                version: "13.0.88",
                platform: "manylinux_2_17_aarch64",
                sha256: "d27f20a0ca67a4bb34268a5e951033496c5b74870b868bacd046b1b8e0c3267b",
                size: 43_015_449,
                unpacked: 103_945_662,
                files: NVRTC,
            },
            Wheel {
                package: "nvidia-nvjitlink",
                version: "13.0.88",
                platform: "manylinux_2_17_aarch64",
                sha256: "e931536ccc7d467a98ba1d8b89ff7fa7f1fa3b13f2b0069118cd7f47bff07d0c",
                size: 38_768_748,
                unpacked: 89_318_206,
                files: NVJITLINK,
            },
            Wheel {
                package: "nvidia-curand",
                version: "10.4.0.35",
                platform: "manylinux_2_27_aarch64",
                sha256: "133df5a7509c3e292aaa2b477afd0194f06ce4ea24d714d616ff36439cee349a",
                size: 61_962_106,
                unpacked: 147_948_630,
                files: CURAND,
            },
            Wheel {
                package: "nvidia-cufft",
                version: "12.0.0.61",
                platform: "manylinux_2_17_aarch64",
                sha256: "2708c852ef8cd89d1d2068bdbece0aa188813a0c934db3779b9b1faa8442e5f5",
                size: 214_053_554,
                unpacked: 283_345_014,
                files: CUFFT,
            },
            Wheel {
                package: "nvidia-cudnn-cu13",
                version: "9.19.0.56",
                platform: "manylinux_2_27_aarch64",
                sha256: "6ed29ffaee1176c612daf442e4dd6cfeb6a0caa43ddcbeb59da94953030b1be4",
                size: 433_781_201,
                unpacked: 533_654_950,
                files: CUDNN,
            },
            Wheel {
                package: "onnxruntime-gpu",
                version: VERSION,
                platform: "manylinux_2_34_aarch64",
                sha256: "dc878916611b8a816000ffedacc5f5988f77bb93bf9655ad20144ee3acb08e55",
                size: 212_349_085,
                unpacked: 263_463_305,
                files: ONNX_RUNTIME_AARCH64,
            },
        ],
    },
];
