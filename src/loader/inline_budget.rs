//! The decision whether a version runs on the threads that read requests, by the time that a batch takes.

use std::time::{Duration, Instant};

use super::probe::Probe;
use crate::{
    batcher::MAX_INLINE_TIME,
    config::{InPlace, ModelConfig},
    engine::Instance,
    tensor::{Datatype, Dimension, Signature, TensorSpec},
};

/// Rows of a batch at most that is run there: more come together only where requests bring many, and those gain nothing.
const ROWS: usize = 64;

/// Timing budget of a load. Noise only slows runs down, so the fastest of several runs counts.
const MAX_TIMING_TIME: Duration = Duration::from_millis(10);

/// Rows that a batch may have there, or why the version does not run there, for people. Where requests are not joined it is
/// one.
pub(in crate::loader) fn rows_in_place(
    config: &ModelConfig,
    probe: &Probe,
    threads: usize,
    instance: &mut Instance,
) -> Result<usize, String> {
    if config.in_place == InPlace::Off {
        return Err("config.toml says in_place = \"off\"".into());
    }
    if !config.max_queue_delay.is_zero() {
        return Err("config.toml has requests wait for others (max_queue_delay)".into());
    }
    if instance.is_in_worker() {
        return Err("it runs in a worker process".into());
    }
    if threads > 1 {
        return Err(format!("a run takes {threads} threads"));
    }
    fixed_size(instance.signature(), probe.rows_independent.is_ok())?;
    if let Some(why) = instance.uneven() {
        return Err(why.to_owned());
    }
    let (Some(row), Some(example)) = (probe.row, &probe.example) else {
        return Err("no run could be timed".into());
    };
    let longest = MAX_INLINE_TIME.as_micros();
    if row > MAX_INLINE_TIME {
        return Err(format!("a row takes {} us, more than {longest} us", row.as_micros()));
    }
    let rows = if probe.batching().is_ok() { config.max_batch_size.min(ROWS) } else { 1 };
    let batch = vec![example; rows];
    let (began, mut shortest) = (Instant::now(), Duration::MAX);
    while shortest == Duration::MAX || began.elapsed() < MAX_TIMING_TIME {
        let started = Instant::now();
        if let Err(why) = instance.run(&batch).outputs {
            return Err(format!("a batch of {rows} rows could not be timed: {why}"));
        }
        shortest = shortest.min(started.elapsed());
        if shortest <= MAX_INLINE_TIME {
            return Ok(rows);
        }
    }
    Err(format!("a batch of {rows} rows takes {} us, more than {longest} us", shortest.as_micros()))
}

/// `Ok` if rows have one size, else the reason, for people: large rows of one client must not hold up others.
pub(in crate::loader) fn fixed_size(signature: &Signature, rows_independent: bool) -> Result<(), String> {
    let fixed = |spec: &TensorSpec| {
        if spec.datatype == Datatype::Bytes {
            return Err(format!("the elements of '{}' have no fixed size", spec.name));
        }
        let open = |shape: &[Dimension]| {
            let mut axes = shape.iter().skip(usize::from(rows_independent));
            axes.any(|dimension| matches!(dimension, Dimension::Symbolic(_)))
        };
        if spec.shape.as_deref().is_none_or(open) {
            return Err(format!("'{}' has no fixed size", spec.name));
        }
        Ok(())
    };
    signature.all_inputs().try_for_each(fixed)
}
