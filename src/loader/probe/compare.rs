//! Comparison of the answers of a batch with those of its rows alone.

use half::{bf16, f16};

use crate::{
    engine::Instance,
    tensor::{Datatype, ModelInputs, RowCutter, Tensor, Tolerance, first_difference},
};

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

/// The rows of inputs that have so many of them.
pub(in crate::loader) fn split(inputs: &ModelInputs, rows: usize) -> Vec<ModelInputs> {
    let mut cutters: Vec<RowCutter<'_>> = inputs.required.iter().map(RowCutter::new).collect();
    (0..rows).map(|_| cutters.iter_mut().map(|cutter| cutter.take(1)).collect::<Vec<_>>().into()).collect()
}

/// A batch that does not give the answers that its rows get alone, for people.
pub(in crate::loader) enum BatchDifference {
    /// Its outputs can't be cut into rows.
    Shape(String),
    /// They can, and hold other values.
    Value(String),
}

impl BatchDifference {
    pub(super) fn into_text(self) -> String {
        let (BatchDifference::Shape(why) | BatchDifference::Value(why)) = self;
        why
    }
}

/// The answers of rows that are run one by one.
pub(super) fn run_alone(instance: &mut Instance, rows: &[ModelInputs]) -> Result<Vec<Vec<Tensor>>, BatchDifference> {
    let failed = |why| BatchDifference::Shape(format!("a probe with one row failed: {why}"));
    rows.iter().map(|row| instance.run(&[row]).outputs.map_err(failed)).collect()
}

/// Compares the answers of a batch with those of its rows alone.
pub(super) fn compare(instance: &mut Instance, batch: &[(&ModelInputs, &[Tensor])]) -> Result<(), BatchDifference> {
    let signature = instance.signature().clone();
    let names = || signature.outputs.iter().map(|spec| &spec.name);
    let rows: Vec<&ModelInputs> = batch.iter().map(|(row, _)| *row).collect();
    let count = rows.len();
    let together = instance.run(&rows).outputs;
    let together = together
        .map_err(|why| BatchDifference::Shape(format!("a probe with {count} rows failed where one row ran: {why}")))?;
    for (name, output) in names().zip(&together) {
        if output.shape().extents().first() != Some(&count) {
            let shape = output.shape();
            return Err(BatchDifference::Shape(format!("output '{name}' has shape {shape} for {count} rows")));
        }
    }
    let mut cutters: Vec<RowCutter<'_>> = together.iter().map(RowCutter::new).collect();
    for (_, alone) in batch {
        for ((name, alone), cutter) in names().zip(*alone).zip(&mut cutters) {
            let together = cutter.take(1);
            if alone.shape() != together.shape() {
                let (alone, together) = (alone.shape(), together.shape());
                return Err(BatchDifference::Shape(format!(
                    "output '{name}' has shape {alone} for a row alone and {together} for one in a batch"
                )));
            }
            if let Some(difference) = first_difference(alone, &together, tolerance_for(alone)) {
                return Err(BatchDifference::Value(format!(
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
