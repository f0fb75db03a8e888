//! A version that answers, and the settings that were derived for it.

use bytes::Bytes;
use std::{
    fmt::{self, Debug},
    sync::Arc,
    time::Duration,
};

use crate::{
    batcher::Batcher,
    engine::{Provider, RowProof},
    metrics::VersionMetrics,
    tensor::{Signature, ZeroExtents},
};

/// One loading of a version's files: what answers requests.
pub struct Version {
    /// The model's name.
    pub model: Arc<str>,
    /// The version's number.
    pub version: u64,
    /// The same as text, for answers.
    pub number: Bytes,
    /// Number of this load of the version; counts up over the server's life.
    pub generation: u64,
    /// Its inputs and outputs.
    pub signature: Signature,
    /// Axes of its inputs that may be empty.
    pub zero_extents: ZeroExtents,
    /// The settings that were derived for it.
    pub derived: Derived,
    /// Duration of its load, checks and warm-up included.
    pub load_time: Duration,
    /// Its metrics.
    pub metrics: Arc<VersionMetrics>,
    /// Its batcher.
    pub batcher: Arc<Batcher>,
}

/// The settings that were derived for a version, for people to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derived {
    /// True if axis 0 is the batch.
    pub rows_independent: bool,
    /// True if all inputs of a request must have the same extent of axis 0, by the model's or the user's word. Otherwise a request
    /// whose inputs differ runs alone.
    pub rows_must_agree: bool,
    /// Verdict of the graph on the influence of rows of a batch on each other.
    pub row_proof: RowProof,
    /// Rows of a batch at most where requests are batched, else why they are not.
    pub batching: Result<usize, String>,
    /// The devices of its instances: each has as many.
    pub devices: Vec<Provider>,
    /// Why that is the CPU though a GPU works, where it is so.
    pub fallback: Option<String>,
    /// Where recorded runs (CUDA graphs) are wanted: whether it replays some, or why not.
    pub graphs: Option<Result<(), String>>,
    /// Runs that there may be at once.
    pub instances: usize,
    /// Threads of a run.
    pub intra_op_threads: usize,
    /// Rows of a batch at most where the threads that read requests run them, else why they don't.
    pub in_place: Result<usize, String>,
    /// Why its instances run in worker processes; `None` where they run in the server's.
    pub isolation: Option<String>,
}

impl Derived {
    /// Batching of requests, or the reason against it, for people.
    pub fn batching_text(&self) -> String {
        match &self.batching {
            Ok(rows) => format!("on: up to {rows} rows"),
            Err(why) => format!("off: {why}"),
        }
    }

    /// The devices of its instances, as the setting `device` has them.
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

    /// Replay of recorded runs, or the reason against it, for people; `None` where none are wanted.
    pub fn graphs_text(&self) -> Option<String> {
        let text = |graphs: &Result<(), String>| match graphs {
            Ok(()) => "on".to_owned(),
            Err(why) => format!("off: {why}"),
        };
        self.graphs.as_ref().map(text)
    }

    /// The process of its instances: `process` (in worker processes) or `none` (in the server's process).
    pub fn isolation_label(&self) -> &'static str {
        if self.isolation.is_some() { "process" } else { "none" }
    }

    /// The process of its instances, and the reason, for people.
    pub fn isolation_text(&self) -> String {
        let label = self.isolation_label();
        self.isolation.as_ref().map_or_else(|| label.into(), |why| format!("{label}: {why}"))
    }

    /// Runs on the threads that read requests, or the reason against them, for people.
    pub fn in_place_text(&self) -> String {
        match &self.in_place {
            Ok(rows) => format!("on: up to {rows} rows"),
            Err(why) => format!("off: {why}"),
        }
    }
}

impl Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} version {} generation {}", self.model, self.version, self.generation)
    }
}
