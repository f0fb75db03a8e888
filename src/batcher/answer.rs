//! Waits for the outputs of a request, and concatenates those of its pieces.

use std::time::Instant;
use tokio::time::timeout_at;

use super::{
    job::{JobOutput, JobReceiver, QueuedRequest},
    sync::Arc,
    timing::Timing,
    version_batcher::Batcher,
};
use crate::{
    engine::Model,
    error::{Error, Result},
    tensor::{ModelInputs, Tensor, concatenate},
};

impl<M: Model> Batcher<M> {
    /// Waits for the outputs of a request.
    ///
    /// # Errors
    /// The deadline has passed, or the run failed.
    pub async fn answer(self: &Arc<Self>, submitted: QueuedRequest) -> Result<JobOutput> {
        let QueuedRequest { mut receivers, level, deadline, whole } = submitted;
        if receivers.len() == 1
            && let Some(receiver) = receivers.pop()
        {
            return self.output(receiver, deadline).await;
        }
        let mut parts = Vec::with_capacity(receivers.len());
        // An error drops the other receivers, which cancels their jobs.
        for receiver in receivers {
            parts.push(self.output(receiver, deadline).await?);
        }
        let timing = Timing::of_pieces(parts.iter().map(|part| part.timing));
        match (concatenated(&parts), whole) {
            (Some(outputs), _) => Ok(JobOutput { outputs, timing }),
            (None, Some(whole)) => Box::pin(self.answer_whole(*whole, level, deadline)).await,
            (None, None) => Err(Error::internal(format!("{} lost a request: this is a defect", self.label))),
        }
    }

    /// Runs a request in one batch, however many rows it has: inner extents of its outputs depend on all of its rows.
    async fn answer_whole(
        self: &Arc<Self>,
        inputs: ModelInputs,
        level: usize,
        deadline: Option<Instant>,
    ) -> Result<JobOutput> {
        let mut submitted = self.submit_whole(inputs, level, deadline, Instant::now())?;
        match submitted.receivers.pop() {
            Some(receiver) => self.output(receiver, deadline).await,
            None => Err(Error::internal(format!("{} lost a request: this is a defect", self.label))),
        }
    }

    async fn output(&self, receiver: JobReceiver, deadline: Option<Instant>) -> Result<JobOutput> {
        let received = match deadline {
            None => receiver.await,
            Some(deadline) => {
                let answered = Box::pin(timeout_at(deadline.into(), receiver)).await;
                answered.map_err(|_| self.too_late())?
            }
        };
        received.unwrap_or_else(|_| Err(Error::internal(format!("{} lost a request: this is a defect", self.label))))
    }
}

/// Concatenates the outputs of a request's pieces; `None` where their inner extents differ.
fn concatenated(parts: &[JobOutput]) -> Option<Vec<Tensor>> {
    let outputs = parts.first().map_or(0, |part| part.outputs.len());
    let join = |output: usize| concatenate(&parts.iter().map(|part| &part.outputs[output]).collect::<Vec<_>>());
    (0..outputs).map(join).collect()
}
