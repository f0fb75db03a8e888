use std::{collections::BTreeMap, fmt, num::NonZeroUsize, path::PathBuf};

use crate::config::{OtherProvider, provider_options::TENSORRT_PREFIX};

/// Where a session runs, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Threads that a run uses.
    pub threads: NonZeroUsize,
    /// Execution provider.
    pub provider: Provider,
    /// The provider's options, by their names.
    pub options: BTreeMap<String, String>,
    /// True if runs are to be captured as CUDA graphs, where the provider is CUDA's.
    pub graphs: bool,
    /// Rows that a batch holds at most.
    pub max_batch_size: usize,
    /// True if larger requests are split, so that no run has more rows.
    pub splits: bool,
    /// Where what was built for a GPU is kept.
    pub cache: Option<PathBuf>,
    /// Bytes of the host's memory that one run may hold; `None`: what the engine allows.
    pub max_run_memory: Option<usize>,
}

/// An execution provider, and the GPU where it has several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Provider {
    /// The CPU.
    Cpu,
    /// CUDA.
    Cuda {
        /// The GPU's number.
        gpu: u32,
    },
    /// TensorRT, with CUDA for what it does not take.
    TensorRt {
        /// The GPU's number.
        gpu: u32,
    },
    /// Another.
    Other(OtherProvider),
}

/// Default options of CUDA.
const CUDA_DEFAULTS: [(&str, &str); 3] = [
    // Twice as much each time, as ONNX Runtime would have it, leaves other models of the GPU without memory.
    ("arena_extend_strategy", "kSameAsRequested"),
    // Batches have many shapes, and to try every algorithm for each would make the first request of each wait.
    ("cudnn_conv_algo_search", "HEURISTIC"),
    // With it answers differ from the CPU's in the third digit, and rows alone from rows in a batch.
    ("use_tf32", "0"),
];

impl Target {
    /// The CPU, with so many threads a run.
    pub fn cpu(threads: NonZeroUsize) -> Self {
        Target {
            threads,
            provider: Provider::Cpu,
            options: BTreeMap::new(),
            graphs: false,
            max_batch_size: 1,
            splits: false,
            cache: None,
            max_run_memory: None,
        }
    }

    /// True if it is the CPU with one thread a run: a session for it starts no threads.
    pub fn is_single_threaded_cpu(&self) -> bool {
        self.provider == Provider::Cpu && self.threads == NonZeroUsize::MIN
    }

    /// True if CUDA graphs are captured. TensorRT's provider keeps one graph for a session, whatever the size of the batch.
    pub fn captures_graphs(&self) -> bool {
        self.graphs && matches!(self.provider, Provider::Cuda { .. })
    }

    /// Options of CUDA, also where it runs what TensorRT does not take.
    pub(super) fn options_of_cuda(&self, gpu: u32) -> BTreeMap<String, String> {
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let mut options: BTreeMap<_, _> = CUDA_DEFAULTS.into_iter().map(owned).collect();
        let given = self.options.iter().filter(|(key, _)| !key.starts_with(TENSORRT_PREFIX));
        options.extend(given.map(|(key, value)| (key.clone(), value.clone())));
        options.insert("device_id".into(), gpu.to_string());
        if self.captures_graphs() {
            options.insert("enable_cuda_graph".into(), "1".into());
        }
        options
    }

    /// The options of another provider. Core ML's knows true and false as 1 and 0 only.
    pub(super) fn options_of_other(&self) -> BTreeMap<String, String> {
        let numbers = self.provider == Provider::Other(OtherProvider::CoreMl);
        let value = |value: &String| match value.as_str() {
            "true" if numbers => "1".into(),
            "false" if numbers => "0".into(),
            value => value.to_owned(),
        };
        self.options.iter().map(|(key, given)| (key.clone(), value(given))).collect()
    }
}

impl Provider {
    /// Name for people.
    pub fn title(self) -> &'static str {
        match self {
            Provider::Cpu => "the CPU",
            Provider::Cuda { .. } => "CUDA",
            Provider::TensorRt { .. } => "TensorRT",
            Provider::Other(OtherProvider::OpenVino) => "OpenVINO",
            Provider::Other(OtherProvider::MiGraphX) => "MIGraphX",
            Provider::Other(OtherProvider::CoreMl) => "Core ML",
            Provider::Other(OtherProvider::Xnnpack) => "XNNPACK",
        }
    }

    /// The GPU's number, where it runs on one that has a number.
    pub fn gpu(self) -> Option<u32> {
        match self {
            Provider::Cuda { gpu } | Provider::TensorRt { gpu } => Some(gpu),
            Provider::Cpu | Provider::Other(_) => None,
        }
    }
}

impl Provider {
    /// True if a run is no work for the CPU, which waits for a device.
    pub fn waits(self) -> bool {
        match self {
            Provider::Cuda { .. } | Provider::TensorRt { .. } => true,
            Provider::Other(OtherProvider::MiGraphX | OtherProvider::CoreMl) => true,
            // OpenVINO's is the CPU, unless its options say otherwise.
            Provider::Cpu | Provider::Other(OtherProvider::OpenVino | OtherProvider::Xnnpack) => false,
        }
    }
}

/// As the setting `device` has it.
impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Provider::Cpu => f.write_str("cpu"),
            Provider::Cuda { gpu } => write!(f, "cuda:{gpu}"),
            Provider::TensorRt { gpu } => write!(f, "tensorrt:{gpu}"),
            Provider::Other(other) => other.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(provider: Provider, graphs: bool, options: &[(&str, &str)]) -> Target {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Target { provider, graphs, options, ..Target::cpu(NonZeroUsize::MIN) }
    }

    #[test]
    fn configured_options_override_the_defaults() {
        let options = target(Provider::Cuda { gpu: 2 }, true, &[("use_tf32", "true"), ("trt_fp16_enable", "1")]);
        let options = options.options_of_cuda(2);
        let expected = [
            ("arena_extend_strategy", "kSameAsRequested"),
            ("cudnn_conv_algo_search", "HEURISTIC"),
            ("device_id", "2"),
            ("enable_cuda_graph", "1"),
            ("use_tf32", "true"),
        ];
        assert_eq!(options.iter().map(|(key, value)| (&**key, &**value)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn tensorrt_fallback_disables_cuda_graphs() {
        let options = target(Provider::TensorRt { gpu: 0 }, true, &[]).options_of_cuda(0);
        assert!(!options.contains_key("enable_cuda_graph"), "{options:?}");
    }

    #[test]
    fn core_ml_booleans_become_numbers() {
        let options = [("EnableOnSubgraphs", "true"), ("ModelFormat", "MLProgram")];
        let options =
            |other| target(Provider::Other(other), false, &options).options_of_other()["EnableOnSubgraphs"].clone();
        assert_eq!(options(OtherProvider::CoreMl), "1");
        assert_eq!(options(OtherProvider::OpenVino), "true");
    }
}
