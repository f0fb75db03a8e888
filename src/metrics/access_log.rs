use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// What is counted of the access log.
#[derive(Debug, Clone, Default)]
pub struct AccessLogMetrics {
    dropped: Arc<[AtomicU64; Unlogged::ALL.len()]>,
}

/// Why a request has no line in the access log that should have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlogged {
    /// As many lines waited to be written as may.
    Full,
    /// As many failed requests were told within the second as may be.
    Errors,
    /// It could not be written.
    Write,
}

impl Unlogged {
    pub(super) const ALL: [Unlogged; 3] = [Unlogged::Full, Unlogged::Errors, Unlogged::Write];

    pub(super) fn label(self) -> &'static str {
        match self {
            Unlogged::Full => "full",
            Unlogged::Errors => "errors",
            Unlogged::Write => "write",
        }
    }
}

impl AccessLogMetrics {
    /// So many requests have no line.
    pub fn unlogged(&self, why: Unlogged, lines: u64) {
        self.dropped[why as usize].fetch_add(lines, Relaxed);
    }

    pub(super) fn all_unlogged(&self, why: Unlogged) -> u64 {
        self.dropped[why as usize].load(Relaxed)
    }
}
