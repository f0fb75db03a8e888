//! Loads that run, each on its own thread.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{batcher::LoadWatch, loader::LoadRequest};

/// A load that takes this long no longer keeps others from being started.
pub(super) const LONG_LOAD: Duration = Duration::from_secs(5);

/// A load that runs.
pub(super) struct RunningLoad {
    /// The number of the generation that it makes.
    pub generation: u64,
    pub request: LoadRequest,
    pub began: Instant,
    /// The time when it no longer yields to what serves.
    pub promote_at: Option<Instant>,
    /// True if one of its runs was stopped and does not end.
    pub is_stuck: bool,
    /// The handle that stops its runs.
    pub watch: Arc<LoadWatch>,
}

/// A load that begins, as its thread needs it.
pub(super) struct StartedLoad {
    pub generation: u64,
    pub request: LoadRequest,
    pub watch: Arc<LoadWatch>,
}

impl RunningLoad {
    /// True if other loads may be started beside it.
    pub(super) fn is_long(&self, now: Instant) -> bool {
        now >= self.long_at()
    }

    pub(super) fn long_at(&self) -> Instant {
        self.began + LONG_LOAD
    }
}

impl fmt::Debug for RunningLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Load").field("generation", &self.generation).field("began", &self.began).finish_non_exhaustive()
    }
}
