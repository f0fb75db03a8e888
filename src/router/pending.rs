//! A request that a version has taken, from the checks of its inputs to its answer.

use std::{sync::Arc, time::Instant};

use super::version::Version;
use crate::{
    batcher::{self, Timing},
    error::{Code, Error, Result},
    metrics::RequestTimer,
    tensor::{Inputs, ModelInputs, Output, OutputTensor, Request},
    traffic::Reason,
};

/// An answer, and the version that gave it.
#[derive(Debug)]
pub struct Answer {
    /// The version that answered.
    pub version: Arc<Version>,
    /// Why it was that one.
    pub reason: Reason,
    /// The outputs.
    pub output: Output,
    /// Where the time went.
    pub timing: Timing,
}

/// A request that a version is to answer. Dropped, it is cancelled.
pub struct Pending {
    version: Arc<Version>,
    reason: Reason,
    timer: RequestTimer,
    /// Indices of the outputs wanted, if not all are.
    wanted: Option<Vec<usize>>,
    /// Axes that should have one extent and have not.
    disagreement: Option<String>,
    submitted: batcher::QueuedRequest,
}

impl Pending {
    /// Checks a request that was routed to a version for that reason, and puts it into the version's queue.
    ///
    /// # Errors
    /// The request does not fit the signature, the queue is full or too slow, or the deadline has passed.
    pub(super) fn submit(version: Arc<Version>, request: Request, reason: Reason) -> Result<Self> {
        let now = Instant::now();
        let timer = RequestTimer::start(&version.metrics, reason, now);
        let checked = check(&version, request.inputs, &request.outputs);
        let submitted = checked.and_then(|(wanted, inputs)| {
            let disagreement = version.signature.disagreement(&inputs);
            let submitted = version.batcher.submit(inputs, request.priority, request.deadline, now)?;
            Ok((wanted, disagreement, submitted))
        });
        match submitted {
            Ok((wanted, disagreement, submitted)) => {
                Ok(Pending { version, reason, timer, wanted, disagreement, submitted })
            }
            Err(error) => {
                timer.finish(Err(&error));
                Err(error)
            }
        }
    }

    /// The version that is to answer.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Why it is that one.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// The deadline has passed, or the run failed.
    pub async fn answer(self) -> Result<Answer> {
        let Pending { version, reason, timer, wanted, disagreement, submitted } = self;
        let answered = version.batcher.answer(submitted).await;
        let answered = answered.map_err(|error| match disagreement {
            Some(why) if matches!(error.code(), Code::Internal | Code::InvalidArgument) => {
                Error::invalid(format!("{error}; {why}"))
            }
            _ => error,
        });
        timer.finish(answered.as_ref().map(drop));
        let batcher::JobOutput { outputs, timing } = answered?;
        let name = |index: usize| version.signature.outputs[index].name.clone();
        let tensors = match wanted {
            None => outputs
                .into_iter()
                .enumerate()
                .map(|(index, tensor)| OutputTensor { name: name(index), tensor })
                .collect(),
            Some(wanted) => {
                let named = |index: usize| OutputTensor { name: name(index), tensor: outputs[index].clone() };
                wanted.into_iter().map(named).collect()
            }
        };
        Ok(Answer { version, reason, output: Output { tensors }, timing })
    }
}

/// The indices of the outputs that are wanted, and the inputs in the model's order.
fn check(version: &Version, inputs: Inputs, outputs: &[String]) -> Result<(Option<Vec<usize>>, ModelInputs)> {
    let wanted = version.signature.wanted_outputs(&version.model, outputs)?;
    let inputs = version.signature.check(&version.model, inputs)?;
    version.zero_extents.check(&version.model, &version.signature, &inputs)?;
    check_rows(version, &inputs)?;
    Ok((wanted, inputs))
}

/// Where axis 0 is the batch, all inputs must have the same extent of it.
fn check_rows(version: &Version, ModelInputs { required: inputs, .. }: &ModelInputs) -> Result<()> {
    let Some(first) = inputs.first().filter(|_| version.derived.rows_must_agree) else {
        return Ok(());
    };
    let rows = first.shape().rows();
    let Some(index) = inputs.iter().position(|input| input.shape().rows() != rows) else {
        return Ok(());
    };
    Err(Error::invalid(format!(
        "input '{}' of model '{}': batch size (axis 0) is {}, but input '{}' has {rows}",
        version.signature.inputs[index].name,
        version.model,
        inputs[index].shape().rows(),
        version.signature.inputs[0].name,
    )))
}
