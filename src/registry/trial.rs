//! The trial of a file: before it is loaded into the server's process it is loaded and run in a child, which may die.

use std::num::NonZeroUsize;

use super::{
    isolation::ADVICE,
    load::{Loader, may_batch},
    plan::Wanted,
    probe::{OPEN_EXTENTS, ROWS, made_up, split},
    system, test_case,
};
use crate::{
    config::ModelConfig,
    engine::{Death, Instance, ModelFile, Provider, Target},
    error::Failure,
    machine,
    tensor::ModelInputs,
};

impl Loader {
    /// Tries a file that is to be loaded into this process, unless it has passed before. Files for GPUs are not tried: their
    /// kernels are others.
    ///
    /// # Errors
    /// The model ends or blocks the process that loads or runs it, or can't be loaded.
    pub(super) fn try_file(&self, wanted: &Wanted, target: &Target, file: &ModelFile) -> Result<(), Failure> {
        let Some(trials) = self.trials.as_ref().filter(|_| target.provider == Provider::Cpu) else { return Ok(()) };
        let key = trials.key(&self.engine, wanted, file)?;
        if trials.has_passed(&key) {
            return Ok(());
        }
        self.run_trial(wanted, file)?;
        trials.add(key);
        Ok(())
    }

    fn run_trial(&self, wanted: &Wanted, file: &ModelFile) -> Result<(), Failure> {
        let (_, nice) = system::nice_values();
        let launch = self.engine.launch(nice, machine::memory().usable());
        let (path, target) = (&wanted.source.path, Target::cpu(NonZeroUsize::MIN));
        let label = format!("trial of {}", path.display());
        let mut instance = self.engine.load_in_worker(&launch, &label, file, path, &target).inspect_err(|failure| {
            tracing::debug!("the trial of {} failed: {}", path.display(), failure.why);
        })?;
        exercise(&mut instance, &wanted.config);
        if let Some(death) = instance.death() {
            return Err(refusal("the probe's made-up inputs", death, file));
        }
        // Whether they pass is found out later, by the instance that is to serve.
        let _ = test_case::run_all(&wanted.source, "", &mut instance);
        match instance.death() {
            Some(death) => Err(refusal("one of its test cases", death, file)),
            None => Ok(()),
        }
    }
}

fn refusal(what: &str, death: &Death, file: &ModelFile) -> Failure {
    let known = file.hazard().map(|why| format!(" ({why})")).unwrap_or_default();
    Failure::lasting(format!(
        "{what} would end the server's process: a child process that ran the model with them {death}{known}; {ADVICE}, or remove \
         the file"
    ))
}

/// Runs the model with the inputs that the probe will run it with.
fn exercise(instance: &mut Instance, config: &ModelConfig) {
    let signature = instance.signature().clone();
    let rows = if may_batch(config.batching, &signature).is_ok() { ROWS } else { 1 };
    for open in OPEN_EXTENTS {
        let Ok(inputs) = made_up(&signature, rows, open) else { return };
        let rows = if rows > 1 { split(&inputs) } else { vec![inputs] };
        let first = instance.run(&[&rows[0]]).outputs;
        if instance.death().is_some() {
            return;
        }
        if first.is_ok() {
            let all: Vec<&ModelInputs> = rows.iter().collect();
            for batch in std::iter::once(&all[..]).chain(all[1..].chunks(1)) {
                let _ = instance.run(batch);
            }
            return;
        }
    }
}
