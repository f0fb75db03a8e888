//! The thread that releases memory that runs have not used for some seconds.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::Duration,
};

use super::{heap::Heap, pool::Pool};

/// Time between sweeps: what is kept is released after one to two of them.
const SWEEP_INTERVAL: Duration = Duration::from_secs(2);

static POOLS: Mutex<Vec<Weak<Pool>>> = Mutex::new(Vec::new());

/// Has a pool swept as long as it lives.
pub(super) fn watch(pool: &Arc<Pool>) {
    POOLS.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(pool));
}

/// Starts the thread. Without one, memory is released when the limit is reached only.
pub(super) fn start() {
    let sweep = || {
        let mut heap = Heap::new();
        loop {
            thread::sleep(SWEEP_INTERVAL);
            each(Pool::sweep);
            heap.trim_unused();
        }
    };
    if let Err(error) = thread::Builder::new().name("memory".into()).spawn(sweep) {
        tracing::warn!("memory of idle models is not released: no thread can be started for that: {error}");
    }
}

/// Releases all memory that is kept for the next runs.
pub(super) fn release_all() {
    each(Pool::release_kept);
}

fn each(work: impl Fn(&Pool)) {
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    pools.retain(|pool| pool.strong_count() > 0);
    let live: Vec<Arc<Pool>> = pools.iter().filter_map(Weak::upgrade).collect();
    drop(pools);
    live.iter().for_each(|pool| work(pool));
}
