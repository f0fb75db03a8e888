//! Recorded runs (CUDA graphs): whether a version may have them, and one for each size that batches are filled up to.

use super::{
    inline_budget::fixed_size,
    probe::{Draw, Probe, made_up, tolerance},
};
use crate::{
    engine::{Instance, buckets},
    tensor::{ModelInputs, RowCutter, first_difference},
};

/// Has an instance replay recorded runs for batches of at most so many rows, each of which has been held against an ordinary
/// run of other rows.
///
/// # Errors
/// For people: why none are recorded.
pub(in crate::loader) fn record(instance: &mut Instance, probe: &Probe, max_batch_size: usize) -> Result<(), String> {
    let recorded = record_all(instance, probe, max_batch_size);
    if recorded.is_err() {
        instance.drop_graphs();
    }
    recorded
}

fn record_all(instance: &mut Instance, probe: &Probe, max_batch_size: usize) -> Result<(), String> {
    // Batches are filled up with rows that nobody asked for.
    probe.rows_independent.clone()?;
    fixed_size(instance.signature(), true)?;
    let example = probe.example.as_ref().ok_or("no made-up inputs could be run")?;
    for size in buckets(max_batch_size) {
        instance
            .capture_graph(&vec![example; size])
            .map_err(|why| format!("a batch of {size} rows is not recorded: {why}"))?;
        check(instance, size).map_err(|why| format!("a batch of {size} rows that is replayed {why}"))?;
    }
    Ok(())
}

/// Compares a replay with an ordinary run of the same rows.
fn check(instance: &mut Instance, size: usize) -> Result<(), String> {
    // Without the first row, which has been recorded.
    let analysis = instance.row_analysis();
    let inputs = made_up(instance.signature(), analysis, size + 1, 1, Draw::Gentle)?;
    let after_first = |tensor| {
        let mut rows = RowCutter::new(tensor);
        rows.take(1);
        rows.take(size)
    };
    let other: ModelInputs = inputs.required.iter().map(after_first).collect::<Vec<_>>().into();
    let expected = instance.run_without_graphs(&[&other]).outputs.map_err(|why| format!("can't be checked: {why}"))?;
    let replayed = instance.run(&[&other]).outputs.map_err(|why| format!("fails: {why}"))?;
    for (index, (expected, replayed)) in expected.iter().zip(&replayed).enumerate() {
        let name = &instance.signature().outputs[index].name;
        if expected.shape() != replayed.shape() {
            return Err(format!("gives output '{name}' the shape {}, not {}", replayed.shape(), expected.shape()));
        }
        if let Some(difference) = first_difference(expected, replayed, tolerance(expected.datatype())) {
            return Err(format!("gives {} in output '{name}', not {}", difference.got, difference.expected));
        }
    }
    Ok(())
}
