//! The probe: warms an instance up, times a row, and finds out whether rows influence each other.

use bytes::Bytes;
use half::{bf16, f16};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{joining, load::may_batch};
use crate::{
    config::ModelConfig,
    engine::Instance,
    tensor::{
        Datatype, Dimension, ModelInputs, RowCutter, Shape, Signature, Tensor, TensorSpec, Tolerance, first_difference,
        push_bytes_element,
    },
};

/// What the probe found.
#[derive(Debug)]
pub(super) struct Probe {
    /// Whether axis 0 is the batch and rows are independent, so that requests may be joined into batches; or why not.
    pub by_rows: Result<(), String>,
    /// Whether that saves anything, or why not.
    pub joining: Result<(), String>,
    /// Time of one row on the warm instance; `None` where no made-up input could be run.
    pub row: Option<Duration>,
    /// Made-up inputs that ran.
    pub example: Option<ModelInputs>,
    /// ONNX Runtime's words where it ran none.
    pub refused: Option<String>,
    /// Time that all of this took.
    pub took: Duration,
}

impl Probe {
    /// Whether requests are joined into batches, or why not.
    pub(super) fn batching(&self) -> Result<(), String> {
        self.by_rows.clone().and(self.joining.clone())
    }

    pub(super) fn without_run(by_rows: Result<(), String>) -> Self {
        Probe { by_rows, joining: Ok(()), row: None, example: None, refused: None, took: Duration::ZERO }
    }
}

/// Rows that are run alone and together.
pub(super) const ROWS: usize = 4;

/// Extents tried for axes that the signature leaves open: the first that runs is taken. Sequences take any, images often not
/// less than a few dozen.
pub(super) const OPEN_EXTENTS: [usize; 4] = [16, 1, 64, 224];

/// Rows alone and together may differ in the last bits even where they are independent, since kernels add up in another
/// order: this much is the same answer. For halves that is two units in the last place, as they have 11 and 8 bits.
pub(super) fn tolerance(datatype: Datatype) -> Tolerance {
    let relative = match datatype {
        Datatype::Fp16 => 2.0 / f64::from(1 << 10),
        Datatype::Bf16 => 2.0 / f64::from(1 << 7),
        _ => 1e-3,
    };
    Tolerance { absolute: 1e-5, relative }
}

/// Probes a fresh instance with made-up inputs.
pub(super) fn probe(instance: &mut Instance, config: &ModelConfig) -> Probe {
    let started = Instant::now();
    let found = find_out(instance, config);
    Probe { took: started.elapsed(), ..found }
}

fn find_out(instance: &mut Instance, config: &ModelConfig) -> Probe {
    let signature = instance.signature().clone();
    let allowed = may_batch(config.batching, &signature);
    let rows = if allowed.is_ok() { ROWS } else { 1 };
    let mut refusal = String::new();
    for open in OPEN_EXTENTS {
        let inputs = match made_up(&signature, rows, open) {
            Ok(inputs) => inputs,
            Err(why) => return Probe::without_run(allowed.and(Err(why))),
        };
        let mut rows = if allowed.is_ok() { split(&inputs) } else { vec![inputs] };
        match instance.run(&[&rows[0]]).outputs {
            Ok(_) => {
                let row = time(instance, &rows[0]);
                let by_rows = allowed.and_then(|()| independent(instance, &rows));
                let joining = by_rows.as_ref().map_or(Ok(()), |()| joining::pays(instance, &rows, row, config));
                return Probe {
                    by_rows,
                    joining,
                    row: Some(row),
                    example: Some(rows.swap_remove(0)),
                    refused: None,
                    took: Duration::ZERO,
                };
            }
            Err(why) if refusal.is_empty() => refusal = why.to_string(),
            Err(_) => {}
        }
    }
    let why = format!("the probe's made-up inputs could not be run: {refusal}");
    Probe { refused: Some(refusal), ..Probe::without_run(allowed.and(Err(why))) }
}

/// Runs an instance once, so that its first request does not pay for what ONNX Runtime prepares then. That made-up inputs
/// can't be run is no failure. Gives the time that it took.
pub(super) fn warm_up(instance: &mut Instance) -> Duration {
    let started = Instant::now();
    let signature = instance.signature().clone();
    for open in OPEN_EXTENTS {
        if let Ok(inputs) = made_up(&signature, 1, open)
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

/// The rows of inputs that have [`ROWS`] of them.
pub(super) fn split(inputs: &ModelInputs) -> Vec<ModelInputs> {
    let mut cutters: Vec<RowCutter<'_>> = inputs.required.iter().map(RowCutter::new).collect();
    (0..ROWS).map(|_| cutters.iter_mut().map(|cutter| cutter.take(1)).collect::<Vec<_>>().into()).collect()
}

/// Whether every row of a batch gets the answer that it gets alone.
fn independent(instance: &mut Instance, rows: &[ModelInputs]) -> Result<(), String> {
    let names: Vec<Arc<str>> = instance.signature().outputs.iter().map(|spec| spec.name.clone()).collect();
    let batch: Vec<&ModelInputs> = rows.iter().collect();
    let together = instance.run(&batch).outputs;
    let together = together.map_err(|why| format!("a probe with {ROWS} rows failed where one row ran: {why}"))?;
    for (name, output) in names.iter().zip(&together) {
        if output.shape().extents().first() != Some(&ROWS) {
            return Err(format!("output '{name}' has shape {} for {ROWS} rows", output.shape()));
        }
    }
    let mut cutters: Vec<RowCutter<'_>> = together.iter().map(RowCutter::new).collect();
    for row in rows {
        let alone = instance.run(&[row]).outputs.map_err(|why| format!("a probe with one row failed: {why}"))?;
        for ((name, alone), cutter) in names.iter().zip(&alone).zip(&mut cutters) {
            let together = cutter.take(1);
            if alone.shape() != together.shape() {
                return Err(format!(
                    "output '{name}' has shape {} for a row alone and {} for one in a batch",
                    alone.shape(),
                    together.shape()
                ));
            }
            if let Some(difference) = first_difference(alone, &together, tolerance(alone.datatype())) {
                return Err(format!(
                    "rows influence each other: in output '{name}' a row alone gives {}, in a batch {}",
                    difference.expected, difference.got
                ));
            }
        }
    }
    Ok(())
}

/// Inputs with `rows` rows, each different: floats between 0 and 1, integers 0 or 1 (which most vocabularies and categories
/// have), BYTES digits (which are numbers and words alike).
pub(super) fn made_up(signature: &Signature, rows: usize, open: usize) -> Result<ModelInputs, String> {
    let mut random = SplitMix(0);
    let inputs = signature.inputs.iter().map(|spec| made_up_input(spec, rows, open, &mut random));
    Ok(inputs.collect::<Result<Vec<_>, _>>()?.into())
}

/// Bytes of one made-up input at most.
const LARGEST_INPUT: usize = 256 << 20;

fn made_up_input(spec: &TensorSpec, rows: usize, open: usize, random: &mut SplitMix) -> Result<Tensor, String> {
    let extent = |(axis, dimension): (usize, &Dimension)| match dimension {
        Dimension::Fixed(extent) => *extent,
        Dimension::Symbolic(_) if axis == 0 => rows,
        Dimension::Symbolic(_) => open,
    };
    // One that may have any rank gets two axes, as most have.
    let any = [Dimension::Symbolic(None), Dimension::Symbolic(None)];
    let shape = Shape::new(spec.shape.as_deref().unwrap_or(&any).iter().enumerate().map(extent).collect());
    // An element of BYTES takes its length and one digit.
    let size = spec.datatype.size().unwrap_or(size_of::<u32>() + 1);
    let elements = shape.elements().map_err(|error| error.to_string())?;
    let length = elements.checked_mul(size).filter(|&length| length <= LARGEST_INPUT);
    let length = length.ok_or_else(|| {
        format!("input '{}' is too large to be probed: {rows} rows have {elements} elements", spec.name)
    })?;
    let mut data = Vec::with_capacity(length);
    while data.len() < length {
        match spec.datatype {
            Datatype::Fp16 => data.extend(f16::from_f32(random.fraction()).to_le_bytes()),
            Datatype::Bf16 => data.extend(bf16::from_f32(random.fraction()).to_le_bytes()),
            Datatype::Fp32 => data.extend(random.fraction().to_le_bytes()),
            Datatype::Fp64 => data.extend(((random.next() >> 11) as f64 / (1u64 << 53) as f64).to_le_bytes()),
            Datatype::Bytes => push_bytes_element(&mut data, &[b'0' + (random.next() % 10) as u8])?,
            _ => data.extend_from_slice(&(random.next() & 1).to_le_bytes()[..size]),
        }
    }
    Tensor::new(spec.datatype, shape, Bytes::from(data)).map_err(|error| error.to_string())
}

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): the same numbers at every
/// load.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to 1, with the 24 bits of an FP32.
    fn fraction(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }
}
