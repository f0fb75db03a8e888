//! The probe: warms an instance up, times a row, and finds out whether rows influence each other.

mod compare;
mod draws;
mod thorough;

use std::time::{Duration, Instant};

use super::{
    batching_gain::{self, Times},
    batching_rule::may_batch,
};
use crate::{
    config::{Batching, ModelConfig},
    engine::{Instance, RowProof},
    error::Error,
    tensor::{Dimension, ModelInputs, Tensor, TensorSpec},
};
use compare::{BatchDifference, compare, run_alone};
pub(super) use compare::{split, tolerance};
pub(super) use draws::{Draw, made_up};
pub(super) use thorough::thorough;

/// Result of the probe.
#[derive(Debug)]
pub(in crate::loader) struct Probe {
    /// `Ok` if axis 0 is the batch and rows are independent, so that requests may be batched; else the reason.
    pub rows_independent: Result<(), String>,
    /// An influence of rows on each other that the probe saw, though the graph proves that there is none, or the user says so.
    pub disagreement: Option<String>,
    /// `Ok` if batches save time; else the reason.
    pub batching_gain: Result<(), String>,
    /// Time of one row on the warm instance; `None` where no made-up input could be run.
    pub row: Option<Duration>,
    /// Made-up inputs that ran.
    pub example: Option<ModelInputs>,
    /// ONNX Runtime's words where it ran none.
    pub refused: Option<String>,
    /// True if the device is to blame for that, or its lack of memory.
    pub is_refused_by_device: bool,
    /// Time that all of this took.
    pub took: Duration,
}

impl Probe {
    /// `Ok` if requests are batched; else the reason.
    pub(in crate::loader) fn batching(&self) -> Result<(), String> {
        self.rows_independent.clone().and(self.batching_gain.clone())
    }

    pub(in crate::loader) fn without_run(rows_independent: Result<(), String>) -> Self {
        Probe {
            rows_independent,
            disagreement: None,
            batching_gain: Ok(()),
            row: None,
            example: None,
            refused: None,
            is_refused_by_device: false,
            took: Duration::ZERO,
        }
    }
}

/// Rows that are run alone and together.
pub(in crate::loader) const ROWS: usize = 4;

/// Extents tried for axes that the signature leaves open: the first that runs is taken. Sequences take any, images often not
/// less than a few dozen.
pub(in crate::loader) const OPEN_EXTENTS: [usize; 4] = [16, 1, 64, 224];

/// Probes a fresh instance with made-up inputs.
pub(in crate::loader) fn probe(instance: &mut Instance, config: &ModelConfig) -> Probe {
    let started = Instant::now();
    let found = find_out(instance, config);
    Probe { took: started.elapsed(), ..found }
}

fn find_out(instance: &mut Instance, config: &ModelConfig) -> Probe {
    let signature = instance.signature().clone();
    let analysis = instance.row_analysis().clone();
    let allowed = may_batch(config.batching, &signature, &analysis.proof);
    let count = if allowed.is_ok() { ROWS } else { 1 };
    let mut refusal = None;
    for open in OPEN_EXTENTS {
        let inputs = match made_up(&signature, &analysis, count, open, Draw::Gentle) {
            Ok(inputs) => inputs,
            Err(why) => return Probe::without_run(allowed.and(Err(why))),
        };
        let mut rows = if allowed.is_ok() { split(&inputs, ROWS) } else { vec![inputs] };
        match instance.run(&[&rows[0]]).outputs {
            Ok(_) => {
                let row = time(instance, &rows[0]);
                let mut times = Times { apart: Duration::MAX, together: Duration::ZERO };
                let (rows_independent, disagreement) = match &allowed {
                    Ok(()) => rows_independent(instance, (&rows, open), config, &analysis.proof, &mut times),
                    Err(why) => (Err(why.clone()), None),
                };
                let joins = rows_independent.is_ok() && !batching_gain::asks_for_batches(config);
                let larger = joins.then(|| larger_rows(instance)).flatten();
                let pays = |()| batching_gain::pays(instance, &rows, row, times, larger.as_ref(), config);
                let batching_gain = rows_independent.clone().map_or(Ok(()), pays);
                return Probe {
                    rows_independent,
                    disagreement,
                    batching_gain,
                    row: Some(row),
                    example: Some(rows.swap_remove(0)),
                    refused: None,
                    is_refused_by_device: false,
                    took: Duration::ZERO,
                };
            }
            Err(why) => _ = refusal.get_or_insert(why),
        }
    }
    let is_refused_by_device = refusal.as_ref().is_some_and(Error::blames_device);
    let refusal = refusal.map(|error| error.to_string()).unwrap_or_default();
    // A proof needs no run, nor does the user's word.
    let is_known = config.batching == Batching::On || analysis.proof == RowProof::Proven;
    let why = format!("the probe's made-up inputs could not be run: {refusal}");
    let rows_independent = if is_known { allowed } else { allowed.and(Err(why)) };
    Probe { refused: Some(refusal), is_refused_by_device, ..Probe::without_run(rows_independent) }
}

/// Verdict of the probe on the rows, and the influence that it saw against the proof or the user's word.
fn rows_independent(
    instance: &mut Instance,
    (rows, open): (&[ModelInputs], usize),
    config: &ModelConfig,
    proof: &RowProof,
    times: &mut Times,
) -> (Result<(), String>, Option<String>) {
    let started = Instant::now();
    let probed = run_alone(instance, rows).and_then(|alone| {
        times.apart = started.elapsed();
        let batch: Vec<(&ModelInputs, &[Tensor])> =
            rows.iter().zip(&alone).map(|(row, answer)| (row, &**answer)).collect();
        let started = Instant::now();
        let compared = compare(instance, &batch);
        times.together = started.elapsed();
        compared
    });
    match (config.batching, proof, probed) {
        // An output without rows can't be cut, even where the configuration asks for batching.
        (_, _, Err(BatchDifference::Shape(why))) => (Err(why), None),
        (Batching::On, _, Err(BatchDifference::Value(why))) => (Ok(()), Some(why)),
        (_, RowProof::Proven, Err(BatchDifference::Value(why))) => (Err(why.clone()), Some(why)),
        (_, _, Err(BatchDifference::Value(why))) => (Err(why), None),
        (Batching::Probed, RowProof::Unproven(_), Ok(())) => {
            (thorough(instance, open, config.max_batch_size).map_err(BatchDifference::into_text), None)
        }
        (_, _, Ok(())) => (Ok(()), None),
    }
}

/// Extents of open axes that requests have sooner than those of the probe: of sentences and images.
const TYPICAL_EXTENT: usize = 64;

/// Rows with extents as requests have them, and the time of one; `None` where the signature leaves none open, or they don't run.
pub(in crate::loader) fn larger_rows(instance: &mut Instance) -> Option<(Vec<ModelInputs>, Duration)> {
    let signature = instance.signature().clone();
    let analysis = instance.row_analysis().clone();
    let is_open = |dimension: &Dimension| matches!(dimension, Dimension::Symbolic(_));
    let has_open_axis = |spec: &TensorSpec| spec.shape.iter().flatten().skip(1).any(is_open);
    if !signature.inputs.iter().any(has_open_axis) {
        return None;
    }
    let inputs = made_up(&signature, &analysis, ROWS, TYPICAL_EXTENT, Draw::Gentle).ok()?;
    let rows = split(&inputs, ROWS);
    instance.run(&[&rows[0]]).outputs.ok()?;
    let started = Instant::now();
    instance.run(&[&rows[0]]).outputs.ok()?;
    Some((rows, started.elapsed()))
}

/// Runs an instance once, so that its first request does not pay for what ONNX Runtime prepares then. That made-up inputs
/// can't be run is no failure. Gives the time that it took.
pub(in crate::loader) fn warm_up(instance: &mut Instance) -> Duration {
    let started = Instant::now();
    let signature = instance.signature().clone();
    for open in OPEN_EXTENTS {
        let analysis = instance.row_analysis().clone();
        if let Ok(inputs) = made_up(&signature, &analysis, 1, open, Draw::Gentle)
            && instance.run(&[&inputs]).outputs.is_ok()
        {
            break;
        }
    }
    started.elapsed()
}

/// Time of a row: the best of three, since noise only adds.
fn time(instance: &mut Instance, row: &ModelInputs) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let started = Instant::now();
        let _ = instance.run(&[row]);
        best = best.min(started.elapsed());
    }
    best
}
