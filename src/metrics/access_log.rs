use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Counters of the access log.
#[derive(Debug, Clone, Default)]
pub struct AccessLogMetrics {
    dropped: Arc<[AtomicU64; Unlogged::ALL.len()]>,
}

/// Reason why a request that should have a line in the access log has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlogged {
    /// The queue of lines was full.
    Full,
    /// The limit of failed requests that are logged per second was reached.
    Errors,
    /// The line could not be written.
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
    /// Counts requests that have no line.
    pub fn unlogged(&self, why: Unlogged, lines: u64) {
        self.dropped[why as usize].fetch_add(lines, Relaxed);
    }

    pub(super) fn all_unlogged(&self, why: Unlogged) -> u64 {
        self.dropped[why as usize].load(Relaxed)
    }
}
