//! Memory that sessions hold, by its use.

use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

/// Bytes that are not worth reporting: headers of blocks, and the memory of the smallest models' kernels.
const SMALL: usize = 64 << 10;

/// Memory that one session holds now, and the runs that were refused more.
#[derive(Debug, Default)]
pub struct HeldMemory {
    weights: AtomicUsize,
    runs: AtomicUsize,
    /// Bytes of the model and its weights as they were read.
    files: AtomicUsize,
}

impl HeldMemory {
    /// Adds memory for weights, or else for runs.
    pub fn add(&self, is_weights: bool, bytes: usize) {
        self.counter(is_weights).fetch_add(bytes, Relaxed);
    }

    /// Subtracts memory that was added.
    pub fn subtract(&self, is_weights: bool, bytes: usize) {
        self.counter(is_weights).fetch_sub(bytes, Relaxed);
    }

    /// Records the bytes that were read of the model and its weights. The session holds them in the host's memory.
    pub fn read(&self, bytes: usize) {
        self.files.store(bytes, Relaxed);
    }

    /// Bytes of weights that the session's allocator has counted: those that ONNX Runtime prepares for its kernels.
    pub fn counted_weights(&self) -> usize {
        self.weights.load(Relaxed)
    }

    /// Bytes of weights: as they were read, or as they were counted if that is notably more. ONNX Runtime allocates weights that
    /// no kernel prepares for itself elsewhere.
    pub fn weights(&self) -> usize {
        let (counted, read) = (self.counted_weights(), self.files.load(Relaxed));
        if counted > read + SMALL { counted } else { read }
    }

    /// Bytes of tensors and of memory that is kept for the next runs. Answers that are not written yet are included.
    pub fn runs(&self) -> usize {
        self.runs.load(Relaxed)
    }

    fn counter(&self, is_weights: bool) -> &AtomicUsize {
        if is_weights { &self.weights } else { &self.runs }
    }
}

/// Memory of all sessions of one version, old generations included until they are freed.
#[derive(Debug, Default)]
pub struct VersionMemory {
    sessions: Mutex<Vec<Weak<HeldMemory>>>,
    refused: AtomicU64,
}

impl VersionMemory {
    /// Counts a session from now on, as long as it lives. False if it was counted already.
    pub fn watch(&self, session: &Arc<HeldMemory>) -> bool {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|session| session.strong_count() > 0);
        let is_new = !sessions.iter().any(|known| known.as_ptr() == Arc::as_ptr(session));
        if is_new {
            sessions.push(Arc::downgrade(session));
        }
        is_new
    }

    /// Counts a run that was refused memory.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// Runs that were refused memory.
    pub fn refusals(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Bytes that runs hold.
    pub fn runs(&self) -> usize {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.iter().filter_map(Weak::upgrade).map(|session| session.runs()).sum()
    }
}
