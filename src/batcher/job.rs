//! Jobs: requests, or pieces of over-size ones, from submission to their outputs.

use smallvec::SmallVec;
use std::time::Instant;
use tokio::sync::oneshot;

use super::{queue::Cancel, timing::Timing};
use crate::{
    error::{Error, Result},
    tensor::{ModelInputs, Tensor},
};

/// A request, or a piece of an over-size one, while it waits and runs.
pub(super) struct Job {
    pub inputs: ModelInputs,
    /// True if it is the whole request, or its first piece, which runs before the others.
    pub is_first: bool,
    /// `None` once the job runs in a batch that other threads may answer: the batch holds the sender then.
    pub sender: Option<JobSender>,
}

/// Sender of a job's outputs or error.
pub(super) type JobSender = oneshot::Sender<Result<JobOutput>>;

/// Receiver of a job's outputs or error.
pub(super) type JobReceiver = oneshot::Receiver<Result<JobOutput>>;

/// Outputs of a request, and the time that it took.
pub struct JobOutput {
    /// One tensor per output of the model.
    pub outputs: Vec<Tensor>,
    /// Time by phase.
    pub timing: Timing,
}

/// A request in the queue. Dropped, it is cancelled.
pub struct QueuedRequest {
    /// One for each piece.
    pub(super) receivers: SmallVec<[JobReceiver; 1]>,
    pub(super) deadline: Option<Instant>,
    /// Its priority level, from 0 for the highest.
    pub(super) level: usize,
    /// The request, where it was cut into pieces: it runs whole where the outputs of its pieces can't be concatenated.
    pub(super) whole: Option<Box<ModelInputs>>,
}

impl Job {
    /// Answers a job that will not run. Nobody may wait for it any more.
    pub(super) fn refuse(self, error: Error) {
        if let Some(sender) = self.sender {
            let _ = sender.send(Err(error));
        }
    }
}

impl Cancel for Job {
    fn is_cancelled(&self) -> bool {
        self.sender.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}
