//! The seam between the batcher and the engine: a model that runs one batch at a time.

use super::{batch_run::BatchRun, worker::Death};
use crate::{
    error::{Failure, Lost},
    tensor::ModelInputs,
};

/// A loaded model with the buffers of one run, as the batcher uses it. [`super::Instance`] is the one that serves; tests of the
/// batcher have others. The batcher is generic over it, so the seam costs no run anything.
pub trait Model: Send + 'static {
    /// Runs requests as one batch. Their inputs have been checked against the signature; within an input, all have the same
    /// inner shape, and are stacked along axis 0 in the order given. A single request runs as it is, scalars included.
    fn run(&mut self, requests: &[&ModelInputs]) -> BatchRun;

    /// The reason that no further run can succeed, such as the death of a worker process. The batcher asks after each run: it
    /// then drops the model and takes the version out of service.
    fn lost(&self) -> Option<Lost> {
        None
    }

    /// True if it runs in a worker process.
    fn is_in_worker(&self) -> bool {
        false
    }

    /// The end of its worker process, if it has one that died: it runs nothing any more.
    fn death(&mut self) -> Option<&Death> {
        None
    }

    /// True if it has a worker process that has ended. Cheaper than [`Self::death`], which waits for the process.
    fn is_worker_gone(&mut self) -> bool {
        false
    }

    /// Has a function called once its worker process ends by itself, if it has one. The function must not block.
    fn notify_of_death(&mut self, notify: impl Fn() + Send + Sync + 'static) {
        drop(notify);
    }

    /// Starts the worker process again after its death, with the same files.
    ///
    /// # Errors
    /// For people: the reason that it can't be started, or the files have changed.
    fn restart(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}
