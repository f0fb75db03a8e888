//! While a run is recorded (a CUDA graph is captured), nothing else in the process may ask a GPU's driver for memory, give some
//! back, or wait for the GPU as a whole: it would fail, and the recording with it. So other runs, loads and unloads wait; runs
//! are recorded at loads only.

use std::sync::{PoisonError, RwLock};

static RECORDING: RwLock<()> = RwLock::new(());

/// Does what may touch a GPU's memory while no run is recorded.
pub(in crate::engine) fn while_none_is_recorded<T>(work: impl FnOnce() -> T) -> T {
    let _shared = RECORDING.read().unwrap_or_else(PoisonError::into_inner);
    work()
}

/// Records a run.
pub(in crate::engine) fn alone<T>(record: impl FnOnce() -> T) -> T {
    let _alone = RECORDING.write().unwrap_or_else(PoisonError::into_inner);
    record()
}
