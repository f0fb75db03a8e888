//! `loadtest raw`: ONNX Runtime alone, for what inference costs without a server.

use onnxd::{
    engine::{Engine, Target},
    host::files::ModelPath,
    ort_library,
    tensor::{Dimension, ModelInputs, TensorSpec},
};
use serde::Serialize;
use std::{
    fmt::Write as _,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use crate::{
    cli::Raw,
    processes::Processes,
    tensors::{Input, Shapes},
};

#[derive(Serialize)]
struct Figures {
    threads: usize,
    rows: usize,
    /// Median time of a run.
    run_us: f64,
    rows_per_second: f64,
    cpu_us_per_row: Option<f64>,
}

/// Runs a model; a table for stdout.
pub(crate) fn raw(options: &Raw) -> Result<String, String> {
    let library = ort_library::locate().map_err(|error| error.to_string())?;
    let engine = Engine::start(&library)?;
    let mut all = Vec::new();
    for &threads in &options.threads {
        let count = NonZeroUsize::new(threads).ok_or("--threads is 1 or more")?;
        let mut instance =
            engine.load(&ModelPath::alone(&options.model), &Target::cpu(count)).map_err(|failure| failure.why)?;
        for &rows in &options.rows {
            let inputs = inputs(&instance.signature().inputs, rows, &options.shape)?;
            all.push(figures(threads, rows, options.duration, || {
                instance.run(&[&inputs]).outputs.map(drop).map_err(|error| format!("{rows} rows: {error}"))
            })?);
        }
    }
    if options.json {
        return serde_json::to_string_pretty(&all).map_err(|error| error.to_string());
    }
    let mut text =
        format!("{:>7}  {:>6}  {:>10}  {:>10}  {:>10}\n", "threads", "rows", "run us", "rows/s", "CPU us/row");
    for Figures { threads, rows, run_us, rows_per_second, cpu_us_per_row } in &all {
        let cpu = cpu_us_per_row.map(|cpu| format!("{cpu:.2}")).unwrap_or_default();
        let _ = writeln!(text, "{threads:>7}  {rows:>6}  {run_us:>10.1}  {rows_per_second:>10.0}  {cpu:>10}");
    }
    Ok(text)
}

/// Runs for a while, after some runs that are not counted.
fn figures(
    threads: usize,
    rows: usize,
    duration: Duration,
    mut run: impl FnMut() -> Result<(), String>,
) -> Result<Figures, String> {
    let warm = Instant::now();
    while warm.elapsed() < duration / 10 {
        run()?;
    }
    let (began, cpu) = (Instant::now(), Processes::own().cpu_time());
    let mut times = Vec::new();
    // One at least, however late it is by now.
    while times.is_empty() || began.elapsed() < duration {
        let began = Instant::now();
        run()?;
        times.push(began.elapsed());
    }
    let took = began.elapsed();
    let cpu = Processes::own().cpu_time().zip(cpu).map(|(after, before)| after.saturating_sub(before));
    times.sort_unstable();
    let all_rows = (times.len() * rows) as f64;
    Ok(Figures {
        threads,
        rows,
        run_us: times[times.len() / 2].as_secs_f64() * 1e6,
        rows_per_second: all_rows / took.as_secs_f64(),
        cpu_us_per_row: cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / all_rows),
    })
}

fn inputs(specs: &[TensorSpec], rows: usize, shapes: &Shapes) -> Result<ModelInputs, String> {
    let mut random = fastrand::Rng::with_seed(1);
    let extent = |dimension: &Dimension| match dimension {
        Dimension::Fixed(extent) => *extent as i64,
        Dimension::Symbolic(_) => -1,
    };
    let tensor = |spec: &TensorSpec| {
        let shape = spec.shape.as_deref().unwrap_or(&[Dimension::Symbolic(None)]).iter().map(extent).collect();
        let input = Input { name: spec.name.to_string(), datatype: spec.datatype, shape };
        Ok(input.made_up(rows, shapes, &mut random)?.tensor)
    };
    specs.iter().map(tensor).collect::<Result<Vec<_>, String>>().map(ModelInputs::from)
}
