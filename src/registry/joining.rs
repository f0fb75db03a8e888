//! Whether it pays to join requests: their rows are copied to lie one behind the other, which large ones may take longer for
//! than a batch saves.

use std::time::{Duration, Instant};

use crate::{
    config::{Batching, ModelConfig},
    engine::Instance,
    tensor::ModelInputs,
};

/// Bytes of a row from which on it is timed. To copy less takes next to no time.
const LARGE: usize = 64 << 10;

/// Beside a row that takes longer, copying it is nothing.
const LONG: Duration = Duration::from_millis(1);

/// Times that both ways are taken: the best counts, since noise only adds.
const ROUNDS: usize = 5;

/// Whether a batch of these rows takes less time than one after the other, or why requests are run apart, for people. `row`
/// is how long one takes.
pub(super) fn pays(
    instance: &mut Instance,
    rows: &[ModelInputs],
    row: Duration,
    config: &ModelConfig,
) -> Result<(), String> {
    let told = asks_for_batches(config);
    let Some(bytes) = rows.first().map(ModelInputs::bytes).filter(|bytes| *bytes >= LARGE && row <= LONG && !told)
    else {
        return Ok(());
    };
    let batch: Vec<&ModelInputs> = rows.iter().collect();
    let (mut apart, mut together) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let started = Instant::now();
        for row in rows {
            let _ = instance.run(&[row]);
        }
        apart = apart.min(started.elapsed());
        let started = Instant::now();
        let _ = instance.run(&batch);
        together = together.min(started.elapsed());
    }
    if is_worth(apart, together) {
        return Ok(());
    }
    let (count, apart, together) = (rows.len(), apart.as_micros(), together.as_micros());
    Err(format!("{count} rows of {} KiB take {together} us as a batch and {apart} us one by one", bytes >> 10))
}

/// Who has requests wait for others wants them joined, whatever that takes.
pub(super) fn asks_for_batches(config: &ModelConfig) -> bool {
    config.batching == Batching::On || !config.max_queue_delay.is_zero()
}

/// A batch is to save a tenth: in it all wait for the last, and what was timed is not exact.
fn is_worth(apart: Duration, together: Duration) -> bool {
    together <= apart * 9 / 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_worth_it_where_it_saves_a_tenth() {
        let worth = |apart, together| is_worth(Duration::from_micros(apart), Duration::from_micros(together));
        assert!(worth(100, 90) && worth(100, 1));
        assert!(!worth(100, 91) && !worth(100, 100) && !worth(100, 300));
    }
}
