//! Account of a session's memory, with its limits.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use super::refusal::AllocationRefusal;
use crate::metrics::HeldMemory;

/// Purpose of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Purpose {
    /// Weights, from a load until the session ends.
    Weights,
    /// Tensors of runs, with what is kept of them for the next.
    Runs,
    /// Memory for threads of ONNX Runtime's own, of no known session. It is never refused: an exception on such a
    /// thread would end the process.
    Other,
}

/// The counters and limits of one session.
#[derive(Debug)]
pub(in crate::engine) struct Account {
    total: &'static MemoryTotal,
    held: Arc<HeldMemory>,
    /// Bytes that one run may hold at once.
    run_limit: usize,
    /// True if runs get zeroed memory only.
    is_zeroed: bool,
}

/// Memory that sessions hold together, and its limit.
#[derive(Debug)]
pub(super) struct MemoryTotal {
    /// Bytes by purpose.
    held: [AtomicUsize; 3],
    limit: AtomicUsize,
}

/// The total of the process.
static PROCESS: MemoryTotal = MemoryTotal::new(usize::MAX);

/// Where weights have taken nearly all, runs get this part of the limit all the same: the least that lets small models serve.
const LEAST_PART: usize = 16;

/// Sets what all sessions of the process may hold together.
pub(in crate::engine) fn limit_total(bytes: usize) {
    PROCESS.limit.store(bytes, Relaxed);
}

impl MemoryTotal {
    pub(super) const fn new(limit: usize) -> Self {
        MemoryTotal { held: [const { AtomicUsize::new(0) }; 3], limit: AtomicUsize::new(limit) }
    }
}

impl Account {
    /// An account of a session whose runs may hold so much each.
    pub(in crate::engine) fn new(run_limit: usize, is_zeroed: bool) -> Self {
        Account::of_total(&PROCESS, run_limit, is_zeroed)
    }

    /// An account that counts in this total, for a session whose runs may hold so much each.
    pub(super) fn of_total(total: &'static MemoryTotal, run_limit: usize, is_zeroed: bool) -> Self {
        Account { total, held: Arc::default(), run_limit, is_zeroed }
    }

    /// Memory that the session holds now.
    pub(in crate::engine) fn held(&self) -> &Arc<HeldMemory> {
        &self.held
    }

    /// Bytes that one run may hold.
    pub(super) fn run_limit(&self) -> usize {
        self.run_limit
    }

    /// True if runs get zeroed memory only.
    pub(in crate::engine) fn is_zeroed(&self) -> bool {
        self.is_zeroed
    }

    /// Counts memory that is about to be taken from the system.
    pub(super) fn take(&self, purpose: Purpose, bytes: usize) -> Result<(), AllocationRefusal> {
        let MemoryTotal { held: total, limit } = self.total;
        let held = total[purpose as usize].fetch_add(bytes, Relaxed);
        let limit = limit.load(Relaxed);
        let is_free = match purpose {
            Purpose::Weights => false,
            Purpose::Runs => held + bytes <= limit / LEAST_PART,
            Purpose::Other => true,
        };
        if !is_free && total.iter().map(|total| total.load(Relaxed)).sum::<usize>() > limit {
            total[purpose as usize].fetch_sub(bytes, Relaxed);
            return Err(AllocationRefusal::Process { asked: bytes, limit });
        }
        self.held.add(purpose == Purpose::Weights, bytes);
        Ok(())
    }

    /// Counts memory that has gone back to the system.
    pub(super) fn gave_back(&self, purpose: Purpose, bytes: usize) {
        self.total.held[purpose as usize].fetch_sub(bytes, Relaxed);
        self.held.subtract(purpose == Purpose::Weights, bytes);
    }
}
