//! Load requests: the files and settings from which one version is loaded.

use crate::{config::ModelConfig, repository::Source};

/// Model name and version number.
pub type VersionKey = (String, u64);

/// Files and settings of one load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadRequest {
    /// The version's files.
    pub source: Source,
    /// The settings on which a load depends.
    pub config: ModelConfig,
}

impl LoadRequest {
    /// Host memory that the version may take, in bytes, estimated by the size of its files for each session. A version that ends up
    /// on a GPU passes through the host's memory too.
    pub fn memory(&self) -> u64 {
        self.source.fingerprint.size().saturating_mul(self.config.instances.unwrap_or(1) as u64)
    }
}
