//! Running a batch and answering everyone in it.

use smallvec::{SmallVec, smallvec};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::Ordering::Relaxed,
    time::Instant,
};

use super::{Batcher, Job, Ran, Timing, Waiting};
use crate::{
    engine::{self, Instance},
    error::{Code, Error, Result},
    metrics::Phase,
    tensor::{ModelInputs, RowCutter, Tensor},
};

impl Batcher {
    /// Runs a batch that was taken from the queue at `taken` and answers every job in it.
    pub(super) fn run(&self, instance: &mut Instance, batch: Vec<Waiting<Job>>, taken: Instant) {
        for waiting in &batch {
            self.metrics.left_queue(taken - waiting.arrived);
        }
        self.run_or_bisect(instance, batch, taken);
    }

    /// Where a batch fails, one job may be to blame: the halves are run on their own, down to the culprit, which alone gets
    /// the error.
    fn run_or_bisect(&self, instance: &mut Instance, mut batch: Vec<Waiting<Job>>, taken: Instant) {
        match self.try_run(instance, &batch) {
            Ok((answers, took)) => {
                for (waiting, outputs) in batch.into_iter().zip(answers) {
                    let timing = Timing { queue: taken - waiting.arrived, rows: waiting.rows, ..took };
                    // Nobody may be waiting any more.
                    let _ = waiting.job.reply.send(Ok(Ran { outputs, timing }));
                }
            }
            Err(_) if batch.len() > 1 => {
                let second = batch.split_off(batch.len() / 2);
                self.run_or_bisect(instance, batch, taken);
                self.run_or_bisect(instance, second, taken);
            }
            Err(why) => {
                for waiting in batch {
                    let error = Error::new(self.blamed(why.code()), format!("{} failed to run: {why}", self.label));
                    let _ = waiting.job.reply.send(Err(error));
                }
            }
        }
    }

    /// The code of a lone job's failure. Where other inputs have run, these are to blame.
    fn blamed(&self, code: Code) -> Code {
        match code {
            Code::RunFailed if self.has_run.load(Relaxed) => Code::InvalidArgument,
            Code::RunFailed => Code::Internal,
            code => code,
        }
    }

    /// Runs the jobs as one batch and cuts the outputs into their answers. What it took is told as far as all have it in common.
    fn try_run(&self, instance: &mut Instance, batch: &[Waiting<Job>]) -> Result<(SmallVec<[Vec<Tensor>; 1]>, Timing)> {
        let inputs: SmallVec<[&ModelInputs; 1]> = batch.iter().map(|waiting| &waiting.job.inputs).collect();
        let rows: usize = batch.iter().map(|waiting| waiting.rows).sum();
        let requests = batch.len() as u64;
        // A panic would be a defect, but not one that may take the instance, and with it the version, away.
        let ran = catch_unwind(AssertUnwindSafe(|| instance.run(&inputs)));
        let panicked = |_| Error::internal("the engine panicked: this is a defect of the server");
        let engine::Ran { outputs, input, run } = ran.map_err(panicked)?;
        self.metrics.batch_ran(rows as u64);
        self.metrics.phase_took(Phase::Input, input, requests);
        self.metrics.phase_took(Phase::Run, run, requests);
        if rows <= self.settings.in_place_rows {
            self.pace.ran(run);
        }
        let outputs = outputs?;
        if !self.has_run.load(Relaxed) {
            self.has_run.store(true, Relaxed);
        }
        let started = Instant::now();
        let answers = cut(batch, outputs, rows)?;
        let output = started.elapsed();
        self.metrics.phase_took(Phase::Output, output, requests);
        Ok((answers, Timing { input, run, output, batch_rows: rows, ..Timing::default() }))
    }
}

/// Each job's rows of the outputs. The outputs of a lone job are its own as they are.
fn cut(batch: &[Waiting<Job>], outputs: Vec<Tensor>, rows: usize) -> Result<SmallVec<[Vec<Tensor>; 1]>> {
    if batch.len() == 1 {
        return Ok(smallvec![outputs]);
    }
    if let Some(index) = outputs.iter().position(|output| output.shape().extents().first() != Some(&rows)) {
        let shape = outputs[index].shape();
        return Err(Error::internal(format!("output {index} has shape {shape} for a batch of {rows} rows")));
    }
    let mut cutters: Vec<RowCutter<'_>> = outputs.iter().map(RowCutter::new).collect();
    let mut answer = |waiting: &Waiting<Job>| cutters.iter_mut().map(|cutter| cutter.take(waiting.rows)).collect();
    Ok(batch.iter().map(&mut answer).collect())
}
