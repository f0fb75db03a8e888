//! Generations: one load of a version's files each.

use std::sync::Arc;

use crate::router::Version;

/// A loaded generation, as the lifecycle of its version needs it.
pub(super) trait Generation {
    /// The generation's number.
    fn number(&self) -> u64;

    /// Host memory of its weights, in bytes.
    fn memory(&self) -> u64;

    /// True if no request and no run holds it: it can be freed once it has been replaced.
    fn is_idle(&self) -> bool;

    /// Seconds that its load took: without its warm-up, and the warm-up.
    fn load_seconds(&self) -> (f64, f64);
}

/// A generation that the router can serve.
#[derive(Debug)]
pub(super) struct LoadedVersion {
    pub version: Arc<Version>,
    /// Host memory of its weights, in bytes.
    pub memory: u64,
    /// Seconds of the load that its warm-up took.
    pub warm_up_seconds: f64,
}

impl Generation for LoadedVersion {
    fn number(&self) -> u64 {
        self.version.generation
    }

    fn memory(&self) -> u64 {
        self.memory
    }

    fn is_idle(&self) -> bool {
        // A run holds the batcher, also a run that nobody waits for, and one that was abandoned.
        Arc::strong_count(&self.version) == 1 && Arc::strong_count(&self.version.batcher) == 1
    }

    fn load_seconds(&self) -> (f64, f64) {
        let all = self.version.load_time.as_secs_f64();
        ((all - self.warm_up_seconds).max(0.0), self.warm_up_seconds)
    }
}
