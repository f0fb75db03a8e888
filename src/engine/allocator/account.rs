//! What a session's memory is counted in, and what it may hold.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use super::refusal::Refusal;
use crate::metrics::HeldMemory;

/// What memory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Purpose {
    /// Weights, from a load until the session ends.
    Weights,
    /// Tensors of runs, with what is kept of them for the next.
    Runs,
    /// What threads of ONNX Runtime's own ask for, of which nothing says for whom. It is never refused: an exception on such a
    /// thread would end the process.
    Other,
}

/// The counters and limits of one session.
#[derive(Debug)]
pub(in crate::engine) struct Account {
    held: Arc<HeldMemory>,
    /// Bytes that one run may hold at once.
    run_limit: AtomicUsize,
    /// Whether runs get zeroed memory only.
    is_zeroed: AtomicBool,
}

/// What all sessions hold, by purpose.
static TOTAL: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];

/// What all sessions may hold together.
static TOTAL_LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Where weights have taken nearly all, runs get this part of the limit all the same: the least that lets small models serve.
const LEAST_PART: usize = 16;

/// Sets what all sessions of the process may hold together.
pub(in crate::engine) fn limit_total(bytes: usize) {
    TOTAL_LIMIT.store(bytes, Relaxed);
}

impl Account {
    /// An account of a session whose runs may hold so much each.
    pub(in crate::engine) fn new(run_limit: usize, is_zeroed: bool) -> Self {
        Account { held: Arc::default(), run_limit: run_limit.into(), is_zeroed: is_zeroed.into() }
    }

    /// What the session holds now.
    pub(in crate::engine) fn held(&self) -> &Arc<HeldMemory> {
        &self.held
    }

    /// What one run may hold.
    pub(super) fn run_limit(&self) -> usize {
        self.run_limit.load(Relaxed)
    }

    /// Whether runs get zeroed memory only.
    pub(super) fn is_zeroed(&self) -> bool {
        self.is_zeroed.load(Relaxed)
    }

    /// Counts memory that is about to be taken from the system.
    pub(super) fn take(&self, purpose: Purpose, bytes: usize) -> Result<(), Refusal> {
        let total = &TOTAL[purpose as usize];
        let held = total.fetch_add(bytes, Relaxed);
        let limit = TOTAL_LIMIT.load(Relaxed);
        let is_free = match purpose {
            Purpose::Weights => false,
            Purpose::Runs => held + bytes <= limit / LEAST_PART,
            Purpose::Other => true,
        };
        if !is_free && TOTAL.iter().map(|total| total.load(Relaxed)).sum::<usize>() > limit {
            total.fetch_sub(bytes, Relaxed);
            return Err(Refusal::Process { asked: bytes, limit });
        }
        self.held.add(purpose == Purpose::Weights, bytes);
        Ok(())
    }

    /// Counts memory that has gone back to the system.
    pub(super) fn gave_back(&self, purpose: Purpose, bytes: usize) {
        TOTAL[purpose as usize].fetch_sub(bytes, Relaxed);
        self.held.subtract(purpose == Purpose::Weights, bytes);
    }
}
