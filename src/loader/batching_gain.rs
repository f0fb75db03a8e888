//! Gain of batches: large rows are copied to lie one behind the other, and kernels that use the CPU well with one row use it no
//! better, and often worse, with many.

use std::time::{Duration, Instant};

use crate::{
    config::{Batching, ModelConfig},
    engine::Instance,
    tensor::ModelInputs,
};

/// Bytes of a row from which on a fast model is timed. To copy less takes next to no time.
const LARGE: usize = 64 << 10;

/// Time of a row up to which overheads are most of it: batches save those.
const FAST: Duration = Duration::from_millis(1);

/// Time of a row from which on the runs of the probe have to do: a load is not to take minutes.
const SLOW: Duration = Duration::from_millis(25);

/// Times that both ways are taken: the best counts, since noise only adds.
const ROUNDS: usize = 5;

/// Times of the same rows, one by one and as one batch.
#[derive(Debug, Clone, Copy)]
pub(in crate::loader) struct Times {
    pub apart: Duration,
    pub together: Duration,
}

/// Compares a batch of these rows with the rows one after the other. The error is the reason to run them apart. `row` is how
/// long one takes, `probed` what the probe took for them; `larger` rows have the extents of requests, with the time of one.
pub(in crate::loader) fn pays(
    instance: &mut Instance,
    rows: &[ModelInputs],
    row: Duration,
    probed: Times,
    larger: Option<&(Vec<ModelInputs>, Duration)>,
    config: &ModelConfig,
) -> Result<(), String> {
    if asks_for_batches(config) {
        return Ok(());
    }
    let (rows, row) = larger.map_or((rows, row), |(rows, row)| (rows, *row));
    let bytes = rows.first().map_or(0, ModelInputs::bytes);
    if row <= FAST && bytes < LARGE {
        return Ok(());
    }
    let times = match larger {
        None if row > SLOW => probed,
        _ => time(instance, rows, if row > SLOW { 1 } else { ROUNDS }),
    };
    if is_worth(times) {
        return Ok(());
    }
    let (count, apart, together) = (rows.len(), times.apart.as_micros(), times.together.as_micros());
    Err(format!(
        "{count} rows of {} KiB take {together} us as a batch and {apart} us one by one",
        bytes.div_ceil(1 << 10)
    ))
}

fn time(instance: &mut Instance, rows: &[ModelInputs], rounds: usize) -> Times {
    let batch: Vec<&ModelInputs> = rows.iter().collect();
    let mut best = Times { apart: Duration::MAX, together: Duration::MAX };
    for _ in 0..rounds {
        let started = Instant::now();
        for row in rows {
            let _ = instance.run(&[row]);
        }
        best.apart = best.apart.min(started.elapsed());
        let started = Instant::now();
        let _ = instance.run(&batch);
        best.together = best.together.min(started.elapsed());
    }
    best
}

/// True if the configuration has requests wait for others: they are batched then, whatever that takes.
pub(in crate::loader) fn asks_for_batches(config: &ModelConfig) -> bool {
    config.batching == Batching::On || !config.max_queue_delay.is_zero()
}

/// A batch is to save a tenth: in it all wait for the last, and what was timed is not exact.
fn is_worth(Times { apart, together }: Times) -> bool {
    together <= apart * 9 / 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_pays_when_it_saves_a_tenth() {
        let worth = |apart, together| {
            is_worth(Times { apart: Duration::from_micros(apart), together: Duration::from_micros(together) })
        };
        assert!(worth(100, 90) && worth(100, 1));
        assert!(!worth(100, 91) && !worth(100, 100) && !worth(100, 300));
    }
}
