use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Counts of the codec threads' jobs.
#[derive(Debug, Clone, Default)]
pub struct CodecMetrics {
    ended: Arc<[AtomicU64; CodecOutcome::ALL.len()]>,
}

/// Outcome of a job of the codec threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodecOutcome {
    /// The job was done, and its request goes on.
    Done,
    /// The job was left out or given up: its client had gone, or its deadline had passed.
    Cancelled,
}

impl CodecOutcome {
    pub(super) const ALL: [CodecOutcome; 2] = [CodecOutcome::Done, CodecOutcome::Cancelled];

    pub(super) fn label(self) -> &'static str {
        match self {
            CodecOutcome::Done => "done",
            CodecOutcome::Cancelled => "cancelled",
        }
    }
}

impl CodecMetrics {
    /// Counts a job that has ended.
    pub fn ended(&self, outcome: CodecOutcome) {
        self.ended[outcome as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn all_ended(&self, outcome: CodecOutcome) -> u64 {
        self.ended[outcome as usize].load(Relaxed)
    }
}
