//! The probe: warms an instance up, times a row, and finds out whether rows influence each other.

mod draws;
mod thorough;

use half::{bf16, f16};
use std::time::{Duration, Instant};

use super::{
    batching_gain::{self, Times},
    load::may_batch,
};
use crate::{
    config::{Batching, ModelConfig},
    engine::{Instance, RowProof},
    error::Error,
    tensor::{Datatype, Dimension, ModelInputs, RowCutter, Tensor, TensorSpec, Tolerance, first_difference},
};
use draws::SplitMix;
pub(super) use draws::{Draw, made_up};
pub(super) use thorough::thorough;

/// What the probe found.
#[derive(Debug)]
pub(in crate::loader) struct Probe {
    /// Whether axis 0 is the batch and rows are independent, so that requests may be joined into batches; or why not.
    pub by_rows: Result<(), String>,
    /// An influence of rows on each other that the probe saw, though the graph proves that there is none, or the user says so.
    pub disagreement: Option<String>,
    /// Whether that saves anything, or why not.
    pub joining: Result<(), String>,
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
    /// Whether requests are joined into batches, or why not.
    pub(in crate::loader) fn batching(&self) -> Result<(), String> {
        self.by_rows.clone().and(self.joining.clone())
    }

    pub(in crate::loader) fn without_run(by_rows: Result<(), String>) -> Self {
        Probe {
            by_rows,
            disagreement: None,
            joining: Ok(()),
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

/// Rows alone and together may differ in the last bits even where they are independent, since kernels add up in another
/// order: this much is the same answer. For halves that is two units in the last place, as they have 11 and 8 bits.
pub(in crate::loader) fn tolerance(datatype: Datatype) -> Tolerance {
    let relative = match datatype {
        Datatype::Fp16 => 2.0 / f64::from(1 << 10),
        Datatype::Bf16 => 2.0 / f64::from(1 << 7),
        _ => 1e-3,
    };
    Tolerance { absolute: 1e-5, relative }
}

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
                let (by_rows, disagreement) = match &allowed {
                    Ok(()) => rows_independent(instance, (&rows, open), config, &analysis.proof, &mut times),
                    Err(why) => (Err(why.clone()), None),
                };
                let joins = by_rows.is_ok() && !batching_gain::asks_for_batches(config);
                let larger = joins.then(|| larger_rows(instance)).flatten();
                let pays = |()| batching_gain::pays(instance, &rows, row, times, larger.as_ref(), config);
                let joining = by_rows.clone().map_or(Ok(()), pays);
                return Probe {
                    by_rows,
                    disagreement,
                    joining,
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
    let by_rows = if is_known { allowed } else { allowed.and(Err(why)) };
    Probe { refused: Some(refusal), is_refused_by_device, ..Probe::without_run(by_rows) }
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
        // What has no rows can't be cut, whatever is said.
        (_, _, Err(Difference::Shape(why))) => (Err(why), None),
        (Batching::On, _, Err(Difference::Value(why))) => (Ok(()), Some(why)),
        (_, RowProof::Proven, Err(Difference::Value(why))) => (Err(why.clone()), Some(why)),
        (_, _, Err(Difference::Value(why))) => (Err(why), None),
        (Batching::Probed, RowProof::Unproven(_), Ok(())) => {
            (thorough(instance, open, config.max_batch_size).map_err(Difference::into_text), None)
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

/// The rows of inputs that have so many of them.
pub(in crate::loader) fn split(inputs: &ModelInputs, rows: usize) -> Vec<ModelInputs> {
    let mut cutters: Vec<RowCutter<'_>> = inputs.required.iter().map(RowCutter::new).collect();
    (0..rows).map(|_| cutters.iter_mut().map(|cutter| cutter.take(1)).collect::<Vec<_>>().into()).collect()
}

/// A batch that does not give the answers that its rows get alone, for people.
pub(in crate::loader) enum Difference {
    /// Its outputs can't be cut into rows.
    Shape(String),
    /// They can, and hold other values.
    Value(String),
}

impl Difference {
    fn into_text(self) -> String {
        let (Difference::Shape(why) | Difference::Value(why)) = self;
        why
    }
}

/// The answers of rows that are run one by one.
fn run_alone(instance: &mut Instance, rows: &[ModelInputs]) -> Result<Vec<Vec<Tensor>>, Difference> {
    let failed = |why| Difference::Shape(format!("a probe with one row failed: {why}"));
    rows.iter().map(|row| instance.run(&[row]).outputs.map_err(failed)).collect()
}

/// Compares the answers of a batch with those of its rows alone.
fn compare(instance: &mut Instance, batch: &[(&ModelInputs, &[Tensor])]) -> Result<(), Difference> {
    let signature = instance.signature().clone();
    let names = || signature.outputs.iter().map(|spec| &spec.name);
    let rows: Vec<&ModelInputs> = batch.iter().map(|(row, _)| *row).collect();
    let count = rows.len();
    let together = instance.run(&rows).outputs;
    let together = together
        .map_err(|why| Difference::Shape(format!("a probe with {count} rows failed where one row ran: {why}")))?;
    for (name, output) in names().zip(&together) {
        if output.shape().extents().first() != Some(&count) {
            let shape = output.shape();
            return Err(Difference::Shape(format!("output '{name}' has shape {shape} for {count} rows")));
        }
    }
    let mut cutters: Vec<RowCutter<'_>> = together.iter().map(RowCutter::new).collect();
    for (_, alone) in batch {
        for ((name, alone), cutter) in names().zip(*alone).zip(&mut cutters) {
            let together = cutter.take(1);
            if alone.shape() != together.shape() {
                let (alone, together) = (alone.shape(), together.shape());
                return Err(Difference::Shape(format!(
                    "output '{name}' has shape {alone} for a row alone and {together} for one in a batch"
                )));
            }
            if let Some(difference) = first_difference(alone, &together, tolerance_for(alone)) {
                return Err(Difference::Value(format!(
                    "rows influence each other: in output '{name}' a row alone gives {}, in a batch of {count} {}",
                    difference.expected, difference.got
                )));
            }
        }
    }
    Ok(())
}

/// The tolerance for an answer: where large numbers cancel each other out, what is left of them has their rounding errors.
fn tolerance_for(answer: &Tensor) -> Tolerance {
    let Tolerance { absolute, relative } = tolerance(answer.datatype());
    Tolerance { absolute: absolute.max(1e-6 * largest(answer)), relative }
}

/// The largest finite element, without its sign.
fn largest(tensor: &Tensor) -> f64 {
    fn of<const N: usize>(tensor: &Tensor, read: impl Fn([u8; N]) -> f64) -> f64 {
        let elements = tensor.data().as_chunks::<N>().0.iter().map(|bytes| read(*bytes).abs());
        elements.filter(|element| element.is_finite()).fold(0.0, f64::max)
    }
    match tensor.datatype() {
        Datatype::Fp16 => of(tensor, |bytes| f16::from_le_bytes(bytes).into()),
        Datatype::Bf16 => of(tensor, |bytes| bf16::from_le_bytes(bytes).into()),
        Datatype::Fp32 => of(tensor, |bytes| f32::from_le_bytes(bytes).into()),
        Datatype::Fp64 => of(tensor, f64::from_le_bytes),
        _ => 0.0,
    }
}
