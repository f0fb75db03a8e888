//! The thread that releases memory that runs have not used for some seconds.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::Duration,
};

use super::heap::Heap;

/// Time between sweeps: what is kept is released after one to two of them.
const SWEEP_INTERVAL: Duration = Duration::from_secs(2);

/// Memory that is kept for the next runs.
pub(super) trait Sweep: Send + Sync {
    /// Releases kept blocks that no run has used since the sweep before the last.
    fn sweep(&self);

    /// Releases all kept blocks.
    fn release_kept(&self);
}

static POOLS: Mutex<Vec<Weak<dyn Sweep>>> = Mutex::new(Vec::new());

/// Has a pool swept as long as it lives.
pub(super) fn watch(pool: &Arc<dyn Sweep>) {
    POOLS.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(pool));
}

/// Starts the thread. Without one, memory is released when the limit is reached only.
pub(super) fn start() {
    let sweep = || {
        let mut heap = Heap::new();
        loop {
            thread::sleep(SWEEP_INTERVAL);
            each(|pool| pool.sweep());
            heap.trim_unused();
        }
    };
    if let Err(error) = thread::Builder::new().name("memory".into()).spawn(sweep) {
        tracing::warn!(%error, "memory of idle models is not released, no thread can be started");
    }
}

/// Releases all memory that is kept for the next runs.
pub(super) fn release_all() {
    each(|pool| pool.release_kept());
}

fn each(work: impl Fn(&dyn Sweep)) {
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    pools.retain(|pool| pool.strong_count() > 0);
    let live: Vec<Arc<dyn Sweep>> = pools.iter().filter_map(Weak::upgrade).collect();
    drop(pools);
    live.iter().for_each(|pool| work(&**pool));
}
