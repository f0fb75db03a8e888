//! Running a batch and answering everyone in it.

use smallvec::{SmallVec, smallvec};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use super::{
    batch::{Batch, Members},
    job::{Job, JobOutput},
    queue::Waiting,
    sync::{Arc, atomic::Ordering::Relaxed},
    timing::Timing,
    version_batcher::{Batcher, LaneId},
    watched_runs,
};
use crate::{
    engine::{BatchRun, Model, stop_reason},
    error::{Code, Error, Result},
    metrics::{RequestPhase, StopReason},
    tensor::{ModelInputs, RowCutter, Tensor},
};

/// The outputs of each job of a batch.
type OutputsByJob = SmallVec<[Vec<Tensor>; 1]>;

/// The failure of a run.
struct FailedRun {
    error: Error,
    stopped: Option<StopReason>,
    /// True if the watchdog has answered its jobs: it did not end though it was stopped.
    is_abandoned: bool,
}

impl From<Error> for FailedRun {
    fn from(error: Error) -> Self {
        FailedRun { error, stopped: None, is_abandoned: false }
    }
}

impl<M: Model> Batcher<M> {
    /// Runs a batch that was taken from the queue at `taken` and answers every job in it.
    pub(super) fn run(self: &Arc<Self>, instance: &mut M, batch: Vec<Waiting<Job>>, taken: Instant, lane: LaneId) {
        for waiting in &batch {
            self.metrics.left_queue(taken - waiting.arrived);
        }
        let members: Members = (0..batch.len()).collect();
        let mut batch = match lane {
            LaneId::Compute => Batch::shared(batch),
            LaneId::Inline(number) => {
                watched_runs::runs_inline(self.inline_lanes[number].batcher(), self.compute.watchdog());
                Batch::Unshared(batch)
            }
        };
        if members.len() > 1 && instance.is_in_worker() && self.worker_deaths.runs_alone(taken) {
            for member in members {
                let goes_on = self.run_or_bisect(instance, &mut batch, &[member], taken);
                // After a job that has ended the worker, the jobs behind it get that as their error.
                if !goes_on && instance.lost().is_none() {
                    return;
                }
            }
            return;
        }
        self.run_or_bisect(instance, &mut batch, &members, taken);
    }

    /// Where a batch fails, one job may be to blame: the halves are run on their own, down to the culprit, which alone gets
    /// the error. Jobs that nobody waits for any more are left out. False: nothing more is to be run.
    fn run_or_bisect(self: &Arc<Self>, instance: &mut M, batch: &mut Batch, members: &[usize], taken: Instant) -> bool {
        let FailedRun { error, stopped, is_abandoned } = match self.try_run(instance, batch, members) {
            Ok((outputs, took)) => {
                for (member, outputs) in members.iter().zip(outputs) {
                    let waiting = &batch.jobs()[*member];
                    let timing = Timing { queue: taken - waiting.arrived, rows: waiting.rows, ..took };
                    batch.answer(*member, Ok(JobOutput { outputs, timing }));
                }
                return true;
            }
            Err(failed) => failed,
        };
        if is_abandoned {
            return false;
        }
        let lost = instance.lost();
        let error = match (lost, stopped) {
            (Some(lost), _) => Error::new(Code::Unavailable, format!("{} failed to run: {}", self.label, lost.why)),
            (None, Some(StopReason::Deadline | StopReason::Cancelled | StopReason::LoadEnded)) => self.too_late(),
            (None, _) if members.len() > 1 => {
                let (first, second) = members.split_at(members.len() / 2);
                return [first, second].into_iter().all(|half| {
                    let alive = batch.alive(half, Instant::now());
                    alive.is_empty() || self.run_or_bisect(instance, batch, &alive, taken)
                });
            }
            (None, Some(StopReason::MaxRunTime)) => {
                let most = self.settings.max_run_time.unwrap_or_default();
                let why = format!("{}: the run was stopped after {most:?} (max_run_time)", self.label);
                Error::new(Code::DeadlineExceeded, why)
            }
            (None, None) if error.code() == Code::ResourceExhausted => {
                self.metrics.memory().refused();
                Error::new(error.code(), format!("{} failed to run: {error}", self.label))
            }
            (None, None) => Error::new(self.blamed(error.code()), format!("{} failed to run: {error}", self.label)),
        };
        for member in members {
            batch.answer(*member, Err(error.clone()));
        }
        instance.lost().is_none()
    }

    /// The code of a lone job's failure. Where other inputs have run, these are to blame.
    fn blamed(&self, code: Code) -> Code {
        match code {
            Code::RunFailed if self.has_run.load(Relaxed) => Code::InvalidArgument,
            Code::RunFailed => Code::Internal,
            code => code,
        }
    }

    /// Runs the jobs as one batch and cuts the outputs into those of each. The timing is the part that all have in common.
    fn try_run(
        self: &Arc<Self>,
        instance: &mut M,
        batch: &Batch,
        members: &[usize],
    ) -> Result<(OutputsByJob, Timing), FailedRun> {
        let jobs = members.iter().map(|member| &batch.jobs()[*member]);
        let inputs: SmallVec<[&ModelInputs; 1]> = jobs.clone().map(|waiting| &waiting.job.inputs).collect();
        let rows: usize = jobs.clone().map(|waiting| waiting.rows).sum();
        let requests = members.len() as u64;
        if let Batch::Shared(shared) = batch {
            watched_runs::runs_batch(self.clone(), shared, members, self.compute.watchdog());
        }
        // A panic would be a defect, but not one that may take the instance, and with it the version, away.
        let ran = catch_unwind(AssertUnwindSafe(|| instance.run(&inputs)));
        let is_abandoned = matches!(batch, Batch::Shared(_)) && !watched_runs::batch_ended();
        let panicked = |_| Error::internal("the engine panicked: this is a defect of the server");
        let BatchRun { outputs, input, run } = ran.map_err(panicked)?;
        self.metrics.batch_ran(rows as u64);
        self.metrics.phase_took(RequestPhase::Input, input, requests);
        self.metrics.phase_took(RequestPhase::Run, run, requests);
        if rows <= self.settings.inline_rows {
            self.inline_run_time.add(run);
        }
        if matches!(batch, Batch::Shared(_)) {
            self.compute_run_time.add(run);
        }
        let outputs = outputs.map_err(|error| FailedRun { error, stopped: stop_reason(), is_abandoned })?;
        if !self.has_run.load(Relaxed) {
            self.has_run.store(true, Relaxed);
        }
        let started = Instant::now();
        let outputs = cut(jobs, outputs, rows)?;
        let output = started.elapsed();
        self.metrics.phase_took(RequestPhase::Output, output, requests);
        Ok((outputs, Timing { input, run, output, batch_rows: rows, ..Timing::default() }))
    }
}

/// Each job's rows of the outputs. The outputs of a lone job are its own as they are.
fn cut<'a>(
    jobs: impl ExactSizeIterator<Item = &'a Waiting<Job>>,
    outputs: Vec<Tensor>,
    rows: usize,
) -> Result<OutputsByJob> {
    if jobs.len() == 1 {
        return Ok(smallvec![outputs]);
    }
    if let Some(index) = outputs.iter().position(|output| output.shape().extents().first() != Some(&rows)) {
        let shape = outputs[index].shape();
        return Err(Error::internal(format!("output {index} has shape {shape} for a batch of {rows} rows")));
    }
    let mut cutters: Vec<RowCutter<'_>> = outputs.iter().map(RowCutter::new).collect();
    let mut rows_of = |waiting: &Waiting<Job>| cutters.iter_mut().map(|cutter| cutter.take(waiting.rows)).collect();
    Ok(jobs.map(&mut rows_of).collect())
}
