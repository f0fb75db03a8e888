//! Cost of a batch of another size than the last. To a GPU's convolutions every size is a new one: ONNX Runtime
//! has cuDNN plan each of them anew whenever the number of rows changes, also back to one that was planned before. On an H200
//! that took 55 ms for a net of 20 convolutions whose row takes 1 ms, so that batches as they come were answered at a
//! tenth of the rate of batches of one size.

use std::time::{Duration, Instant};

use super::probe::Probe;
use crate::engine::Instance;

/// Rows of the other size.
const OTHER: usize = 4;

/// Times that the size is changed: the best counts, since noise only adds.
const ROUNDS: usize = 2;

/// Extra time of a row after a batch of another size, compared with a row after another row, if that matters.
pub(in crate::loader) fn cost_of_changing(instance: &mut Instance, probe: &Probe) -> Option<Duration> {
    let (example, row) = (probe.example.as_ref()?, probe.row?);
    let other = vec![example; OTHER];
    let changed = |_| {
        let _ = instance.run(&other);
        let started = Instant::now();
        let _ = instance.run(&other[..1]);
        started.elapsed()
    };
    let changed = (0..ROUNDS).map(changed).min()?;
    matters(row, changed).then(|| changed - row)
}

/// True if the change takes several times as long as a row, and not just because a row takes next to nothing.
fn matters(row: Duration, changed: Duration) -> bool {
    changed > 4 * row && changed - row > Duration::from_millis(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_change_matters_beyond_several_rows_and_a_millisecond() {
        let matters = |row, changed| matters(Duration::from_micros(row), Duration::from_micros(changed));
        assert!(matters(1_000, 55_000) && matters(50, 2_750));
        assert!(!matters(1_000, 1_200) && !matters(50, 400) && !matters(20_000, 60_000) && !matters(10, 1));
    }
}
