//! The trial of a file: before it is loaded into the server's process it is loaded and run in a child, which may die.

use std::num::NonZeroUsize;

use super::{
    batching_rule::may_batch,
    context::Loader,
    deaths::ADVICE,
    loading_version::version_in_load,
    probe::{Draw, OPEN_EXTENTS, Probe, ROWS, larger_rows, made_up, split, thorough},
    request::LoadRequest,
    test_case,
    trials::{Passed, Trials},
    zero_extents::zero_extents,
};
use crate::{
    config::{Batching, ModelConfig},
    engine::{Death, Instance, ModelFile, Provider, RowProof, Target, WorkerFailure},
    error::Failure,
    host,
    host::priority,
    tensor::ModelInputs,
};

impl Loader {
    /// Tries a file that is to be loaded into this process, unless the result of an earlier trial is remembered. Files for GPUs
    /// are not tried: their kernels are others.
    ///
    /// # Errors
    /// The model ends or blocks the process that loads or runs it, or can't be loaded.
    pub(in crate::loader) fn try_file(
        &self,
        request: &LoadRequest,
        target: &Target,
        file: &ModelFile,
    ) -> Result<Passed, Failure> {
        let Some(trials) = self.trials.as_ref().filter(|_| target.provider == Provider::Cpu) else {
            return Ok(Passed::default());
        };
        let max_run_memory = self.engine.run_limit(target);
        let key = trials.key(&self.engine, request, file, max_run_memory)?;
        if let Some(passed) = trials.passed(&key) {
            return Ok(passed);
        }
        let (model, version) = version_in_load();
        if let Some(why) = trials.failure(&key, &model, version) {
            return Err(Failure::lasting(format!(
                "{why}; this was the result of an earlier trial of the file: `onnxd load {model} {version}` tries it again"
            )));
        }
        match self.run_trial(trials, request, file, max_run_memory) {
            Ok(TrialSuccess { passed, is_lasting }) => {
                if is_lasting {
                    trials.add_passed(key, passed.clone());
                }
                Ok(passed)
            }
            Err(TrialFailure { failure, is_fault }) => {
                if is_fault {
                    trials.add_failed(key, &model, version, &failure.why);
                }
                Err(failure)
            }
        }
    }

    /// Ends the children that wait for a trial.
    pub(crate) fn end_trials(&self) {
        if let Some(trials) = &self.trials {
            trials.end_children();
        }
    }

    /// Runs a trial in a child that has passed one before, where there is one: to start one takes longer than most trials. One
    /// that it does not survive is run again in a fresh child, since the model before may be to blame.
    fn run_trial(
        &self,
        trials: &Trials,
        request: &LoadRequest,
        file: &ModelFile,
        max_run_memory: usize,
    ) -> Result<TrialSuccess, TrialFailure> {
        let path = &request.source.path;
        let target = Target { max_run_memory: Some(max_run_memory), ..Target::cpu(NonZeroUsize::MIN) };
        if let Some(child) = trials.take_child()
            && let Ok(child) = child.load_another(file, path, &target)
            && let Ok((child, tried)) = run_in(child, request, file)
            && tried.passed.needs_elements.is_none()
        {
            trials.keep_child(child);
            return Ok(tried);
        }
        let (_, nice) = priority::nice_values();
        let launch = self.engine.launch(nice, host::memory().usable());
        let child = match self.engine.load_in_worker(&launch, "trial", file, path, &target) {
            Ok(child) => child,
            Err(WorkerFailure::Model(failure)) => return Err(TrialFailure { failure, is_fault: false }),
            Err(WorkerFailure::Died(death, failure)) => {
                return Err(TrialFailure { failure, is_fault: death.is_fault() });
            }
            // A machine that can't start a child process is no fault of the file.
            Err(WorkerFailure::Unavailable(why)) => {
                trials.report_unavailable(&why);
                return Ok(TrialSuccess { passed: Passed::default(), is_lasting: false });
            }
        };
        let (child, tried) = run_in(child, request, file)?;
        if tried.passed.needs_elements.is_none() {
            trials.keep_child(child);
        }
        Ok(tried)
    }
}

/// A trial that passed.
struct TrialSuccess {
    passed: Passed,
    /// True if another trial of the file would show the same.
    is_lasting: bool,
}

/// A trial that failed.
struct TrialFailure {
    failure: Failure,
    /// True if the model's code is to blame, so that the same file would fail again.
    is_fault: bool,
}

/// Runs the model that a child has loaded, and gives the child back.
fn run_in(
    mut child: Instance,
    request: &LoadRequest,
    file: &ModelFile,
) -> Result<(Instance, TrialSuccess), TrialFailure> {
    let example = exercise(&mut child, &request.config);
    if let Some(death) = child.death() {
        return Err(refusal("the probe's made-up inputs", death, file));
    }
    // The instance that is to serve checks later whether they pass.
    let _ = test_case::run_all(&request.source, "", &mut child);
    if let Some(death) = child.death() {
        return Err(refusal("one of its test cases", death, file));
    }
    // Last, since a model that does not survive that serves all other requests.
    if let Some(example) = example {
        for rows_independent in [Ok(()), Err(String::new())] {
            let probe = Probe { example: Some(example.clone()), ..Probe::without_run(rows_independent) };
            zero_extents(&mut child, &probe, Provider::Cpu);
        }
    }
    let death = child.death();
    let is_lasting = death.is_none_or(Death::is_fault);
    let needs_elements =
        death.map(|death| format!("a run with it would end the server's process: a child process {death}"));
    Ok((child, TrialSuccess { passed: Passed { needs_elements }, is_lasting }))
}

fn refusal(what: &str, death: &Death, file: &ModelFile) -> TrialFailure {
    let known = file.hazard().map(|why| format!(" ({why})")).unwrap_or_default();
    let why = format!(
        "{what} would end the server's process: a child process that ran the model with them {death}{known}; {ADVICE}, or remove \
         the file"
    );
    TrialFailure { failure: Failure { may_pass: death.may_pass(), why }, is_fault: death.is_fault() }
}

/// Runs the model with the inputs that the probe will run it with. Returns one row that ran.
fn exercise(instance: &mut Instance, config: &ModelConfig) -> Option<ModelInputs> {
    let signature = instance.signature().clone();
    let analysis = instance.row_analysis().clone();
    let rows = if may_batch(config.batching, &signature, &analysis.proof).is_ok() { ROWS } else { 1 };
    for open in OPEN_EXTENTS {
        let inputs = made_up(&signature, &analysis, rows, open, Draw::Gentle).ok()?;
        let mut rows = if rows > 1 { split(&inputs, ROWS) } else { vec![inputs] };
        let first = instance.run(&[&rows[0]]).outputs;
        if instance.death().is_some() {
            return None;
        }
        if first.is_ok() {
            let all: Vec<&ModelInputs> = rows.iter().collect();
            for batch in std::iter::once(&all[..]).chain(all[1..].chunks(1)) {
                let _ = instance.run(batch);
            }
            if let Some((larger, _)) = (rows.len() > 1).then(|| larger_rows(instance)).flatten() {
                let _ = instance.run(&larger.iter().collect::<Vec<_>>());
            }
            if config.batching == Batching::Probed && matches!(analysis.proof, RowProof::Unproven(_)) {
                let _ = thorough(instance, open, config.max_batch_size);
            }
            return Some(rows.swap_remove(0));
        }
    }
    None
}
