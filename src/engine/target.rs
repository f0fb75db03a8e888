use std::{collections::BTreeMap, fmt, num::NonZeroUsize};

use crate::config::OtherProvider;

/// Where a session runs, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Threads that a run uses.
    pub threads: NonZeroUsize,
    /// What runs it.
    pub provider: Provider,
    /// The provider's options, by their names.
    pub options: BTreeMap<String, String>,
    /// Whether runs are recorded as CUDA graphs.
    pub graphs: bool,
    /// Rows that a batch holds at most.
    pub max_batch_size: usize,
}

/// What runs a session: an execution provider, and the GPU where it has several.
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

impl Target {
    /// The CPU, with so many threads a run.
    pub fn cpu(threads: NonZeroUsize) -> Self {
        Target { threads, provider: Provider::Cpu, options: BTreeMap::new(), graphs: false, max_batch_size: 1 }
    }
}

impl Provider {
    /// The GPU's number, where it runs on one that has a number.
    pub fn gpu(self) -> Option<u32> {
        match self {
            Provider::Cuda { gpu } | Provider::TensorRt { gpu } => Some(gpu),
            Provider::Cpu | Provider::Other(_) => None,
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
