//! Thorough probe, which decides where the graph proves nothing: several draws, sizes of batches and orders of rows.

use super::{
    compare::{BatchDifference, compare, run_alone, split},
    draws::{Draw, SplitMix, made_up},
};
use crate::{
    engine::Instance,
    tensor::{ModelInputs, Tensor},
};

/// Different rows of each draw.
const ROWS: usize = 8;

/// Rows of the largest batch that is tried.
const MAX_ROWS: usize = 64;

/// Compares the answers of made-up rows alone with those in batches of several sizes, at any place.
///
/// # Errors
/// For people: rows influence each other.
pub(in crate::loader) fn thorough(
    instance: &mut Instance,
    open: usize,
    max_batch_size: usize,
) -> Result<(), BatchDifference> {
    let mut random = SplitMix(1);
    for draw in Draw::ALL {
        let Some((rows, alone)) = drawn(instance, open, draw) else { continue };
        let largest = max_batch_size.min(MAX_ROWS);
        let sizes = [2, 3, ROWS].into_iter().chain(draw.is_for_large_batches().then_some(largest));
        for size in sizes.filter(|size| *size <= max_batch_size) {
            // Every row is in it where it is large enough, in any order.
            let mut order: Vec<usize> = (0..size.max(ROWS)).map(|place| place % ROWS).collect();
            for place in (1..order.len()).rev() {
                order.swap(place, (random.next() % (place as u64 + 1)) as usize);
            }
            let batch: Vec<(&ModelInputs, &[Tensor])> =
                order[..size].iter().map(|row| (&rows[*row], &*alone[*row])).collect();
            compare(instance, &batch)?;
        }
    }
    Ok(())
}

/// Rows of a draw with their answers; `None` where the model does not take them. Integers may be out of the range that it takes:
/// then they are drawn gently.
fn drawn(instance: &mut Instance, open: usize, draw: Draw) -> Option<(Vec<ModelInputs>, Vec<Vec<Tensor>>)> {
    let signature = instance.signature().clone();
    let analysis = instance.row_analysis().clone();
    let gentle = made_up(&signature, &analysis, ROWS, open, Draw::Gentle).ok()?;
    let drawn = made_up(&signature, &analysis, ROWS, open, draw).ok()?;
    let is_float = |tensor: &Tensor| tensor.datatype().is_float();
    let mixed = drawn.required.iter().zip(&gentle.required);
    let mixed = mixed.map(|(drawn, gentle)| if is_float(drawn) { drawn.clone() } else { gentle.clone() });
    let mixed: ModelInputs = mixed.collect::<Vec<_>>().into();
    [drawn, mixed].into_iter().find_map(|inputs| {
        let rows = split(&inputs, ROWS);
        let alone = run_alone(instance, &rows).ok()?;
        Some((rows, alone))
    })
}
