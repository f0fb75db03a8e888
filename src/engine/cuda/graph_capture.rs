//! Capture of CUDA graphs: while one is captured, nothing else in the process may ask a GPU's driver for memory, give some back, or
//! wait for the GPU as a whole: it would fail, and the capture with it. So other runs, loads and unloads wait; graphs are captured
//! at loads only.

use ort::session::RunOptions;
use std::sync::{Arc, PoisonError, RwLock};

static CAPTURING: RwLock<()> = RwLock::new(());

/// Number of no graph: a run with it is neither captured nor replayed.
pub(in crate::engine) const NO_GRAPH: i32 = -1;

/// Does what may touch a GPU's memory while no graph is captured.
pub(in crate::engine) fn while_no_graph_is_captured<T>(work: impl FnOnce() -> T) -> T {
    let _shared = CAPTURING.read().unwrap_or_else(PoisonError::into_inner);
    work()
}

/// Captures a graph, beside which nothing else touches a GPU's memory.
pub(in crate::engine) fn capture_alone<T>(capture: impl FnOnce() -> T) -> T {
    let _alone = CAPTURING.write().unwrap_or_else(PoisonError::into_inner);
    capture()
}

/// Options of a run that is captured or replayed under a number, or is neither with [`NO_GRAPH`].
pub(in crate::engine) fn graph_options(number: i32) -> ort::Result<Arc<RunOptions>> {
    let mut options = RunOptions::new()?;
    options.set("gpu_graph_id", number.to_string())?;
    Ok(options.into())
}
