//! A load's subject: which version, from which files, with which settings.

use crate::{config::ModelConfig, repository::Source};

/// Name and number of a version.
pub type Key = (String, u64);

/// Files and settings that a version is loaded from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The files.
    pub source: Source,
    /// The model's settings, as far as a load depends on them.
    pub config: ModelConfig,
}

impl Wanted {
    /// Bytes of the host's memory that a version loaded from this may take, as far as that can be told: those of its files, for
    /// each session. One that is on a GPU in the end goes through the host's memory too.
    pub fn memory(&self) -> u64 {
        self.source.fingerprint.size().saturating_mul(self.config.instances.unwrap_or(1) as u64)
    }
}
