//! Whether a version runs on the threads that read requests.

use std::time::{Duration, Instant};

use crate::{
    batcher::LONGEST,
    config::{InPlace, ModelConfig},
    engine::Instance,
    tensor::{Datatype, Dimension, ModelInputs, Signature, TensorSpec},
};

/// Rows of a batch at most that is run there: more come together only where requests bring many, and those gain nothing.
const ROWS: usize = 64;

/// Times that a batch is timed before it counts as too long: noise only adds.
const TRIES: usize = 10;

/// Rows that a batch may have there, where the version is `batched` and otherwise alone; or why it does not run there, for
/// people.
pub(super) fn rows_in_place(
    config: &ModelConfig,
    batched: bool,
    threads: usize,
    instance: &mut Instance,
    example: Option<&ModelInputs>,
) -> Result<usize, String> {
    if config.in_place == InPlace::Off {
        return Err("config.toml says in_place = \"off\"".into());
    }
    if !config.max_queue_delay.is_zero() {
        return Err("config.toml has requests wait for others (max_queue_delay)".into());
    }
    if threads > 1 {
        return Err(format!("a run takes {threads} threads"));
    }
    fixed_size(instance.signature(), batched)?;
    if let Some(why) = instance.uneven() {
        return Err(why.to_owned());
    }
    let Some(example) = example else {
        return Err("no run could be timed".into());
    };
    let rows = if batched { config.max_batch_size.min(ROWS) } else { 1 };
    let batch = vec![example; rows];
    let mut shortest = Duration::MAX;
    for _ in 0..TRIES {
        let started = Instant::now();
        if let Err(why) = instance.run(&batch).outputs {
            return Err(format!("a batch of {rows} rows could not be timed: {why}"));
        }
        shortest = shortest.min(started.elapsed());
        if shortest <= LONGEST {
            return Ok(rows);
        }
    }
    let (took, longest) = (shortest.as_micros(), LONGEST.as_micros());
    Err(format!("a batch of {rows} rows takes {took} us, more than {longest} us"))
}

/// Whether rows have one size, or why not: what one client sends is not to hold up others.
fn fixed_size(signature: &Signature, batched: bool) -> Result<(), String> {
    let fixed = |spec: &TensorSpec| {
        if spec.datatype == Datatype::Bytes {
            return Err(format!("the elements of '{}' have no fixed size", spec.name));
        }
        let open = |shape: &[Dimension]| {
            let mut axes = shape.iter().skip(usize::from(batched));
            axes.any(|dimension| matches!(dimension, Dimension::Symbolic(_)))
        };
        if spec.shape.as_deref().is_none_or(open) {
            return Err(format!("'{}' has no fixed size", spec.name));
        }
        Ok(())
    };
    signature.all_inputs().try_for_each(fixed)
}
