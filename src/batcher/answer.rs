//! Waits for the answer to a request, and joins the answers of its pieces.

use std::{sync::Arc, time::Instant};
use tokio::time::timeout_at;

use super::{Answer, Batcher, Ran, Submitted, Timing};
use crate::{
    error::{Error, Result},
    tensor::{ModelInputs, Tensor, concatenate},
};

impl Batcher {
    /// Waits for the answer to a request.
    ///
    /// # Errors
    /// The deadline has passed, or the run failed.
    pub async fn answer(self: &Arc<Self>, submitted: Submitted) -> Result<Ran> {
        let Submitted { mut answers, level, deadline, whole } = submitted;
        if answers.len() == 1
            && let Some(answer) = answers.pop()
        {
            return self.part(answer, deadline).await;
        }
        let mut parts = Vec::with_capacity(answers.len());
        // An error drops the answers that are still to come, which cancels their jobs.
        for answer in answers {
            parts.push(self.part(answer, deadline).await?);
        }
        let timing = Timing::of_pieces(parts.iter().map(|part| part.timing));
        match (rejoin(&parts), whole) {
            (Some(outputs), _) => Ok(Ran { outputs, timing }),
            (None, Some(whole)) => Box::pin(self.answer_whole(*whole, level, deadline)).await,
            (None, None) => Err(Error::internal(format!("{} lost a request: this is a defect", self.label))),
        }
    }

    /// Runs a request in one batch, however many rows it has: inner extents of its answer depend on all of its rows.
    async fn answer_whole(
        self: &Arc<Self>,
        inputs: ModelInputs,
        level: usize,
        deadline: Option<Instant>,
    ) -> Result<Ran> {
        let mut submitted = self.submit_whole(inputs, level, deadline, Instant::now())?;
        match submitted.answers.pop() {
            Some(answer) => self.part(answer, deadline).await,
            None => Err(Error::internal(format!("{} lost a request: this is a defect", self.label))),
        }
    }

    async fn part(&self, answer: Answer, deadline: Option<Instant>) -> Result<Ran> {
        let received = match deadline {
            None => answer.await,
            Some(deadline) => {
                let answered = Box::pin(timeout_at(deadline.into(), answer)).await;
                answered.map_err(|_| self.too_late())?
            }
        };
        received.unwrap_or_else(|_| Err(Error::internal(format!("{} lost a request: this is a defect", self.label))))
    }
}

/// Joins the answers of a request's pieces; `None` where their inner extents differ.
fn rejoin(parts: &[Ran]) -> Option<Vec<Tensor>> {
    let outputs = parts.first().map_or(0, |part| part.outputs.len());
    let join = |output: usize| concatenate(&parts.iter().map(|part| &part.outputs[output]).collect::<Vec<_>>());
    (0..outputs).map(join).collect()
}
