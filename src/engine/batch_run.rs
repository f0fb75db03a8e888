//! Result of one run of a batch.

use std::time::Duration;

use crate::{error::Result, tensor::Tensor};

/// Outputs of a run, and the time that it took.
#[derive(Debug)]
pub struct BatchRun {
    /// The outputs in the model's order, each over all rows of the batch; or ONNX Runtime's words, as an error of the client's
    /// where they say that the inputs are to blame.
    pub outputs: Result<Vec<Tensor>>,
    /// Time to stack the inputs.
    pub input: Duration,
    /// Time in ONNX Runtime.
    pub run: Duration,
}
