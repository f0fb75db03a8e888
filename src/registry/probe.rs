//! The probe: warms an instance up, times a row, and finds out whether rows influence each other.

use bytes::Bytes;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::load::may_batch;
use crate::{
    config::Batching,
    engine::Instance,
    tensor::{Datatype, Dimension, Shape, Signature, Tensor, TensorSpec, slice_rows},
};

/// What the probe found.
#[derive(Debug)]
pub(super) struct Probe {
    /// Whether requests may be joined into batches, or why not.
    pub batching: Result<(), String>,
    /// Time of one row on the warm instance; `None` where no made-up input could be run.
    pub row: Option<Duration>,
}

/// Rows that are run alone and together.
const ROWS: usize = 4;

/// Extents tried for axes that the signature leaves open: the first that runs is taken. Sequences take any, images often not
/// less than a few dozen.
const OPEN_EXTENTS: [usize; 4] = [16, 1, 64, 224];

/// Rows alone and together may differ in the last bits even where they are independent, since kernels add up in another
/// order: this much, absolute and relative, is the same answer.
const ABSOLUTE: f64 = 1e-5;
const RELATIVE: f64 = 1e-3;

/// Probes a fresh instance with made-up inputs.
pub(super) fn probe(instance: &mut Instance, batching: Batching) -> Probe {
    let signature = instance.signature().clone();
    let allowed = may_batch(batching, &signature);
    let rows = if allowed.is_ok() { ROWS } else { 1 };
    let mut refusal = String::new();
    for open in OPEN_EXTENTS {
        let inputs = match made_up(&signature, rows, open) {
            Ok(inputs) => inputs,
            Err(why) => {
                return Probe { batching: allowed.and(Err(why)), row: None };
            }
        };
        let first = |inputs: &[Tensor]| -> Vec<Tensor> {
            if rows == 1 { inputs.to_vec() } else { inputs.iter().map(|input| slice_rows(input, 0, 1)).collect() }
        };
        let one = first(&inputs);
        match instance.run(&[&one]).outputs {
            Ok(_) => {
                let row = Some(time(instance, &one));
                return Probe { batching: allowed.and_then(|()| independent(instance, &inputs)), row };
            }
            Err(why) if refusal.is_empty() => refusal = why,
            Err(_) => {}
        }
    }
    let why = format!("the probe's made-up inputs could not be run: {refusal}");
    Probe { batching: allowed.and(Err(why)), row: None }
}

/// Runs an instance once, so that its first request does not pay for what ONNX Runtime prepares then. That made-up inputs
/// can't be run is no failure.
pub(super) fn warm_up(instance: &mut Instance) {
    let signature = instance.signature().clone();
    for open in OPEN_EXTENTS {
        if let Ok(inputs) = made_up(&signature, 1, open)
            && instance.run(&[&inputs]).outputs.is_ok()
        {
            return;
        }
    }
}

/// Time of a row: the best of three, since noise only adds.
fn time(instance: &mut Instance, row: &[Tensor]) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let started = Instant::now();
        let _ = instance.run(&[row]);
        best = best.min(started.elapsed());
    }
    best
}

/// Whether every row of a batch gets the answer that it gets alone.
fn independent(instance: &mut Instance, inputs: &[Tensor]) -> Result<(), String> {
    let names: Vec<Arc<str>> = instance.signature().outputs.iter().map(|spec| spec.name.clone()).collect();
    let rows: Vec<Vec<Tensor>> =
        (0..ROWS).map(|row| inputs.iter().map(|input| slice_rows(input, row, 1)).collect()).collect();
    let batch: Vec<&[Tensor]> = rows.iter().map(Vec::as_slice).collect();
    let together = instance.run(&batch).outputs;
    let together = together.map_err(|why| format!("a probe with {ROWS} rows failed where one row ran: {why}"))?;
    for (index, row) in rows.iter().enumerate() {
        let alone = instance.run(&[row]).outputs.map_err(|why| format!("a probe with one row failed: {why}"))?;
        for ((name, alone), together) in names.iter().zip(&alone).zip(&together) {
            if together.shape().extents().first() != Some(&ROWS) {
                return Err(format!("output '{name}' has shape {} for {ROWS} rows", together.shape()));
            }
            let together = slice_rows(together, index, 1);
            if alone.shape() != together.shape() {
                return Err(format!(
                    "output '{name}' has shape {} for a row alone and {} for one in a batch",
                    alone.shape(),
                    together.shape()
                ));
            }
            if let Some((a, b)) = difference(alone, &together) {
                return Err(format!(
                    "rows influence each other: in output '{name}' a row alone gives {a}, in a batch {b}"
                ));
            }
        }
    }
    Ok(())
}

/// The first pair of elements that are not the same answer.
fn difference(alone: &Tensor, together: &Tensor) -> Option<(f64, f64)> {
    let pairs = |size: usize| alone.data().chunks_exact(size).zip(together.data().chunks_exact(size));
    let floats = |value: fn(&[u8]) -> f64, size: usize| {
        pairs(size).map(|(a, b)| (value(a), value(b))).find(|&(a, b)| {
            let close = (a - b).abs() <= ABSOLUTE + RELATIVE * b.abs();
            !(close || a == b || a.is_nan() && b.is_nan())
        })
    };
    match alone.datatype() {
        Datatype::Fp32 => {
            floats(|bytes| bytes.try_into().map_or(f64::NAN, |bytes| f32::from_le_bytes(bytes).into()), 4)
        }
        Datatype::Fp64 => floats(|bytes| bytes.try_into().map_or(f64::NAN, f64::from_le_bytes), 8),
        datatype => {
            let integer =
                |bytes: &[u8]| bytes.iter().rev().fold(0, |value: u64, byte| value << 8 | u64::from(*byte)) as f64;
            pairs(datatype.size()).find(|(a, b)| a != b).map(|(a, b)| (integer(a), integer(b)))
        }
    }
}

/// Inputs with `rows` rows, each different: floats between 0 and 1, integers 0 or 1 (which most vocabularies and categories
/// have).
fn made_up(signature: &Signature, rows: usize, open: usize) -> Result<Vec<Tensor>, String> {
    let mut random = SplitMix(0);
    signature.inputs.iter().map(|spec| made_up_input(spec, rows, open, &mut random)).collect()
}

/// Bytes of one made-up input at most.
const LARGEST_INPUT: usize = 256 << 20;

fn made_up_input(spec: &TensorSpec, rows: usize, open: usize, random: &mut SplitMix) -> Result<Tensor, String> {
    let extent = |(axis, dimension): (usize, &Dimension)| match dimension {
        Dimension::Fixed(extent) => *extent,
        Dimension::Symbolic(_) if axis == 0 => rows,
        Dimension::Symbolic(_) => open,
    };
    let shape = Shape::new(spec.shape.iter().enumerate().map(extent).collect());
    let length = shape.bytes(spec.datatype).map_err(|error| error.to_string())?;
    if length > LARGEST_INPUT {
        return Err(format!("input '{}' is too large to be probed: {rows} rows take {length} bytes", spec.name));
    }
    let mut data = Vec::with_capacity(length);
    while data.len() < length {
        match spec.datatype {
            Datatype::Fp32 => data.extend(((random.next() >> 40) as f32 / (1 << 24) as f32).to_le_bytes()),
            Datatype::Fp64 => data.extend(((random.next() >> 11) as f64 / (1u64 << 53) as f64).to_le_bytes()),
            datatype => data.extend_from_slice(&(random.next() & 1).to_le_bytes()[..datatype.size()]),
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
}
