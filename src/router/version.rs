use bytes::Bytes;
use std::{
    fmt::{self, Debug},
    sync::Arc,
    time::{Duration, Instant},
};

use super::Answer;
use crate::{
    batcher::{self, Batcher},
    engine::{Provider, RowProof},
    error::{Code, Error, Result},
    metrics::{RequestTimer, VersionMetrics},
    tensor::{Inputs, ModelInputs, Output, OutputTensor, Request, Signature, ZeroExtents},
    traffic::Reason,
};

/// One loading of a version's files: what answers requests.
pub struct Version {
    /// The model's name.
    pub model: Arc<str>,
    /// The version's number.
    pub version: u64,
    /// The same as text, for answers.
    pub number: Bytes,
    /// Which loading of the version this is; counts up over the server's life.
    pub generation: u64,
    /// What it takes and gives.
    pub signature: Signature,
    /// Which axes of its inputs may be empty.
    pub zero_extents: ZeroExtents,
    /// What was derived for it.
    pub derived: Derived,
    /// How long it took to load, checks and warm-up included.
    pub load_time: Duration,
    /// What it counts.
    pub metrics: Arc<VersionMetrics>,
    /// What runs it.
    pub batcher: Arc<Batcher>,
}

/// What was derived for a version, to be seen by people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derived {
    /// True if axis 0 is the batch.
    pub by_rows: bool,
    /// True if all inputs of a request must have the same extent of axis 0, by the model's or the user's word. Otherwise a request
    /// whose inputs differ runs alone.
    pub rows_must_agree: bool,
    /// Verdict of the graph on the influence of rows of a batch on each other.
    pub row_proof: RowProof,
    /// Rows of a batch at most where requests are batched, else why they are not.
    pub batching: Result<usize, String>,
    /// What they run on: each of these has as many instances.
    pub devices: Vec<Provider>,
    /// Why that is the CPU though a GPU works, where it is so.
    pub fallback: Option<String>,
    /// Where recorded runs (CUDA graphs) are wanted: whether it replays some, or why not.
    pub graphs: Option<Result<(), String>>,
    /// How many runs there may be at once.
    pub instances: usize,
    /// Threads of a run.
    pub intra_op_threads: usize,
    /// Rows of a batch at most where the threads that read requests run them, else why they don't.
    pub in_place: Result<usize, String>,
    /// Why its instances run in worker processes; `None` where they run in the server's.
    pub isolation: Option<String>,
}

impl Derived {
    /// Whether requests are batched, or why not, for people.
    pub fn batching_text(&self) -> String {
        match &self.batching {
            Ok(rows) => format!("on: up to {rows} rows"),
            Err(why) => format!("off: {why}"),
        }
    }

    /// What its instances run on, as the setting `device` has it.
    pub fn devices_shown(&self) -> Vec<String> {
        self.devices.iter().map(ToString::to_string).collect()
    }

    /// The same as one text.
    pub fn devices_text(&self) -> String {
        self.devices_shown().join(", ")
    }

    /// The same, with the reason why it is the CPU though a GPU works.
    pub fn device_text(&self) -> String {
        match &self.fallback {
            Some(why) => format!("{}: {why}", self.devices_text()),
            None => self.devices_text(),
        }
    }

    /// Whether recorded runs are replayed, or why not, for people; `None` where none are wanted.
    pub fn graphs_text(&self) -> Option<String> {
        let told = |graphs: &Result<(), String>| match graphs {
            Ok(()) => "on".to_owned(),
            Err(why) => format!("off: {why}"),
        };
        self.graphs.as_ref().map(told)
    }

    /// The process of its instances: `process` (in worker processes) or `none` (in the server's process).
    pub fn isolation_label(&self) -> &'static str {
        if self.isolation.is_some() { "process" } else { "none" }
    }

    /// Whether its instances run in worker processes, and why, for people.
    pub fn isolation_text(&self) -> String {
        let label = self.isolation_label();
        self.isolation.as_ref().map_or_else(|| label.into(), |why| format!("{label}: {why}"))
    }

    /// Whether the threads that read requests run them, or why not, for people.
    pub fn in_place_text(&self) -> String {
        match &self.in_place {
            Ok(rows) => format!("on: up to {rows} rows"),
            Err(why) => format!("off: {why}"),
        }
    }
}

/// A request that a version is to answer. Dropped, it is cancelled.
pub struct Submitted {
    version: Arc<Version>,
    reason: Reason,
    timer: RequestTimer,
    /// Indices of the outputs wanted, if not all are.
    wanted: Option<Vec<usize>>,
    /// Axes that should have one extent and have not.
    disagreement: Option<String>,
    submitted: batcher::Submitted,
}

impl Version {
    /// Checks a request that was sent here for that reason and puts it into the queue.
    ///
    /// # Errors
    /// The request does not fit the signature, the queue is full or too slow, or the deadline has passed.
    pub fn submit(self: &Arc<Self>, request: Request, reason: Reason) -> Result<Submitted> {
        let now = Instant::now();
        let timer = RequestTimer::start(&self.metrics, reason, now);
        let checked = self.check(request.inputs, &request.outputs);
        let submitted = checked.and_then(|(wanted, inputs)| {
            let disagreement = self.signature.disagreement(&inputs);
            let submitted = self.batcher.submit(inputs, request.priority, request.deadline, now)?;
            Ok((wanted, disagreement, submitted))
        });
        match submitted {
            Ok((wanted, disagreement, submitted)) => {
                Ok(Submitted { version: self.clone(), reason, timer, wanted, disagreement, submitted })
            }
            Err(error) => {
                timer.finish(Err(&error));
                Err(error)
            }
        }
    }

    /// The indices of the outputs that are wanted, and the inputs.
    fn check(&self, inputs: Inputs, outputs: &[String]) -> Result<(Option<Vec<usize>>, ModelInputs)> {
        let wanted = self.signature.wanted_outputs(&self.model, outputs)?;
        let inputs = self.signature.check(&self.model, inputs)?;
        self.zero_extents.check(&self.model, &self.signature, &inputs)?;
        self.check_rows(&inputs)?;
        Ok((wanted, inputs))
    }

    /// Where axis 0 is the batch, all inputs have the same extent of it.
    fn check_rows(&self, ModelInputs { required: inputs, .. }: &ModelInputs) -> Result<()> {
        let Some(first) = inputs.first().filter(|_| self.derived.rows_must_agree) else {
            return Ok(());
        };
        let rows = first.shape().rows();
        let Some(index) = inputs.iter().position(|input| input.shape().rows() != rows) else {
            return Ok(());
        };
        Err(Error::invalid(format!(
            "input '{}' of model '{}': batch size (axis 0) is {}, but input '{}' has {rows}",
            self.signature.inputs[index].name,
            self.model,
            inputs[index].shape().rows(),
            self.signature.inputs[0].name,
        )))
    }
}

impl Submitted {
    /// Waits for the answer.
    ///
    /// # Errors
    /// The deadline has passed, or the run failed.
    pub async fn answer(self) -> Result<Answer> {
        let Submitted { version, reason, timer, wanted, disagreement, submitted } = self;
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

impl Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} version {} generation {}", self.model, self.version, self.generation)
    }
}
