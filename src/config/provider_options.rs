//! Options of execution providers, by the names that ONNX Runtime 1.31 knows. For an unknown name ONNX Runtime lists no known
//! ones, some providers ignore it, and either happens only when a model is loaded.

use super::{Device, OtherProvider, document};

/// Options that may be given, of one provider.
type OptionNames = &'static [&'static str];

const CUDA: OptionNames = &[
    "arena_extend_strategy",
    "cudnn_conv1d_pad_to_nc1d",
    "cudnn_conv_algo_search",
    "cudnn_conv_use_max_workspace",
    "do_copy_in_default_stream",
    "enable_skip_layer_norm_strict_mode",
    "external_data_loader_reading_threads",
    "fuse_conv_bias",
    "gpu_mem_limit",
    "prefer_nhwc",
    "sdpa_kernel",
    "tunable_op_enable",
    "tunable_op_max_tuning_duration_ms",
    "tunable_op_tuning_enable",
    "use_ep_level_unified_stream",
    "use_tf32",
];

/// All begin with [`TENSORRT_PREFIX`]. The prefix distinguishes them from the options of CUDA, which runs what TensorRT does
/// not take.
const TENSORRT: OptionNames = &[
    "trt_auxiliary_streams",
    "trt_bf16_enable",
    "trt_build_heuristics_enable",
    "trt_builder_optimization_level",
    "trt_context_memory_sharing_enable",
    "trt_detailed_build_log",
    "trt_dla_core",
    "trt_dla_enable",
    "trt_dump_ep_context_model",
    "trt_dump_subgraphs",
    "trt_engine_cache_enable",
    "trt_engine_cache_path",
    "trt_engine_cache_prefix",
    "trt_engine_decryption_enable",
    "trt_engine_decryption_lib_path",
    "trt_engine_hw_compatible",
    "trt_ep_context_embed_mode",
    "trt_ep_context_file_path",
    "trt_extra_plugin_lib_paths",
    "trt_force_sequential_engine_build",
    "trt_force_timing_cache",
    "trt_fp16_enable",
    "trt_int8_calibration_table_name",
    "trt_int8_enable",
    "trt_int8_use_native_calibration_table",
    "trt_layer_norm_fp32_fallback",
    "trt_load_user_initializer",
    "trt_max_partition_iterations",
    "trt_max_workspace_size",
    "trt_min_subgraph_size",
    "trt_onnx_model_folder_path",
    "trt_op_types_to_exclude",
    "trt_preview_features",
    "trt_profile_max_shapes",
    "trt_profile_min_shapes",
    "trt_profile_opt_shapes",
    "trt_sparsity_enable",
    "trt_tactic_sources",
    "trt_timing_cache_enable",
    "trt_timing_cache_path",
    "trt_weight_stripped_engine_enable",
];

/// Prefix of TensorRT's options.
pub const TENSORRT_PREFIX: &str = "trt_";

const OPENVINO: OptionNames = &[
    "cache_dir",
    "device_id",
    "device_luid",
    "device_type",
    "disable_dynamic_shapes",
    "enable_causallm",
    "enable_opencl_throttling",
    "enable_qdq_optimizer",
    "layout",
    "load_config",
    "model_priority",
    "num_of_threads",
    "num_streams",
    "precision",
    "reshape_input",
];

const MIGRAPHX: OptionNames = &[
    "device_id",
    "migraphx_arena_extend_strategy",
    "migraphx_bf16_enable",
    "migraphx_exhaustive_tune",
    "migraphx_fp16_enable",
    "migraphx_fp8_enable",
    "migraphx_int8_calibration_table_name",
    "migraphx_int8_enable",
    "migraphx_int8_use_native_calibration_table",
    "migraphx_max_compiled_models",
    "migraphx_max_dynamic_batch",
    "migraphx_mem_limit",
    "migraphx_model_cache_dir",
];

const COREML: OptionNames = &[
    "AllowLowPrecisionAccumulationOnGPU",
    "EnableOnSubgraphs",
    "MLComputeUnits",
    "ModelCacheDirectory",
    "ModelFormat",
    "ProfileComputePlan",
    "RequireStaticInputShapes",
    "SpecializationStrategy",
];

const XNNPACK: OptionNames = &["intra_op_num_threads"];

/// Options that are settings of this server's, or can't be given in a file: what to do in their place.
const RESERVED: [(&str, &str); 12] = [
    ("device_id", "name the GPU with device = \"cuda:N\""),
    ("enable_cuda_graph", "write cuda_graphs = true"),
    ("trt_cuda_graph_enable", "graphs are recorded with device = \"cuda\" and cuda_graphs = true only"),
    ("user_compute_stream", AN_ADDRESS),
    ("has_user_compute_stream", AN_ADDRESS),
    ("gpu_external_alloc", AN_ADDRESS),
    ("gpu_external_free", AN_ADDRESS),
    ("gpu_external_empty_cache", AN_ADDRESS),
    ("trt_onnx_bytestream", AN_ADDRESS),
    ("trt_onnx_bytestream_size", AN_ADDRESS),
    ("trt_external_data_bytestream", AN_ADDRESS),
    ("trt_external_data_bytestream_size", AN_ADDRESS),
];

const AN_ADDRESS: &str = "it is about memory of the process, which a file can't name";

/// ONNX Runtime's spellings of "off".
const OFF: [&str; 3] = ["0", "false", "False"];

/// Checks that an option may be given for a device, with this value.
///
/// # Errors
/// For people: why not, and what was meant.
pub(super) fn check(device: Device, option: &str, value: &str) -> Result<(), String> {
    let known: Vec<&str> = match device {
        Device::Cpu => return Err(format!("'{option}' is given, and device = \"cpu\" takes no options")),
        Device::Auto | Device::Cuda(_) => CUDA.to_vec(),
        Device::TensorRt(_) => [TENSORRT, CUDA].concat(),
        Device::Other(OtherProvider::OpenVino) => OPENVINO.to_vec(),
        Device::Other(OtherProvider::MiGraphX) => MIGRAPHX.to_vec(),
        Device::Other(OtherProvider::CoreMl) => COREML.to_vec(),
        Device::Other(OtherProvider::Xnnpack) => XNNPACK.to_vec(),
    };
    if option == "do_copy_in_default_stream" && device.may_be_nvidia() && OFF.contains(&value) {
        return Err(format!(
            "'{option}' can't be off: ONNX Runtime then copies beside the runs that need what is copied, and answers may be wrong"
        ));
    }
    if known.contains(&option) {
        return Ok(());
    }
    let reserved = RESERVED.iter().find(|(name, _)| *name == option && device.may_be_nvidia());
    if let Some((_, instead)) = reserved {
        return Err(format!("'{option}' can't be given: {instead}"));
    }
    if TENSORRT.contains(&option) {
        return Err(format!("'{option}' is an option of TensorRT, and the device is \"{device}\""));
    }
    let meant = document::nearest(option, &known).map(|near| format!("; did you mean '{near}'?"));
    let end = if meant.is_some() { "" } else { ";" };
    let meant = meant.unwrap_or_default();
    let of = if device == Device::Auto { "\"auto\" takes those of CUDA" } else { "known" };
    Err(format!("unknown option '{option}' of device \"{device}\"{meant}{end} {of}: {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(device: &str, option: &str) -> String {
        check(device.parse().unwrap(), option, "1").unwrap_err()
    }

    #[test]
    fn options_of_the_device_are_accepted() {
        for (device, option) in [
            ("cuda", "gpu_mem_limit"),
            ("cuda:1", "use_tf32"),
            ("auto", "cudnn_conv_algo_search"),
            ("tensorrt", "trt_fp16_enable"),
            ("tensorrt:0", "gpu_mem_limit"),
            ("openvino", "device_type"),
            ("migraphx", "migraphx_fp16_enable"),
            ("coreml", "MLComputeUnits"),
            ("xnnpack", "intra_op_num_threads"),
        ] {
            assert_eq!(check(device.parse().unwrap(), option, "1"), Ok(()), "{device} {option}");
        }
    }

    #[test]
    fn unknown_option_suggests_the_known_options() {
        for (device, option, says) in [
            (
                "cuda",
                "gpu_mem_limt",
                "unknown option 'gpu_mem_limt' of device \"cuda\"; did you mean 'gpu_mem_limit'? known: arena_",
            ),
            (
                "auto",
                "colour",
                "unknown option 'colour' of device \"auto\"; \"auto\" takes those of CUDA: arena_extend_strategy,",
            ),
            ("cuda", "trt_fp16_enable", "'trt_fp16_enable' is an option of TensorRT, and the device is \"cuda\""),
            ("cuda", "device_id", "'device_id' can't be given: name the GPU with device = \"cuda:N\""),
            ("cuda", "enable_cuda_graph", "write cuda_graphs = true"),
            ("tensorrt", "trt_cuda_graph_enable", "recorded with device = \"cuda\""),
            ("cuda:0", "user_compute_stream", "memory of the process"),
            ("cpu", "use_tf32", "'use_tf32' is given, and device = \"cpu\" takes no options"),
            (
                "xnnpack",
                "gpu_mem_limit",
                "unknown option 'gpu_mem_limit' of device \"xnnpack\"; known: intra_op_num_threads",
            ),
            (
                "coreml",
                "ml_compute_units",
                "unknown option 'ml_compute_units' of device \"coreml\"; did you mean 'MLComputeUnits'?",
            ),
        ] {
            assert!(refused(device, option).contains(says), "{}", refused(device, option));
        }
    }

    #[test]
    fn option_that_corrupts_answers_is_rejected() {
        let check = |device: &str, value| check(device.parse().unwrap(), "do_copy_in_default_stream", value);
        for device in ["auto", "cuda", "cuda:1", "tensorrt"] {
            assert_eq!([check(device, "1"), check(device, "true")], [Ok(()), Ok(())], "{device}");
            for value in OFF {
                assert!(check(device, value).unwrap_err().contains("can't be off: "), "{device} {value}");
            }
        }
        assert!(check("xnnpack", "0").unwrap_err().starts_with("unknown option"));
    }

    #[test]
    fn option_names_are_sorted_and_unique() {
        for known in [CUDA, TENSORRT, OPENVINO, MIGRAPHX, COREML, XNNPACK] {
            assert!(known.is_sorted() && known.windows(2).all(|pair| pair[0] != pair[1]), "{known:?}");
        }
        assert!(TENSORRT.iter().all(|name| name.starts_with(TENSORRT_PREFIX)));
        assert!(RESERVED.iter().all(|(name, _)| !CUDA.contains(name) && !TENSORRT.contains(name)));
    }
}
