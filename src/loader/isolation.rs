//! Isolation of a version: its sessions run in the server's process or in a worker process.

use std::sync::Arc;

use super::{
    context::Loader, deaths::ADVICE, loading_version::version_in_load, probe::Probe, request::LoadRequest,
    trials::hexadecimal,
};
use crate::{
    config::{Isolation, ModelConfig},
    engine::{Instance, ModelFile, Provider, RunControl, Target, WorkerFailure},
    error::Failure,
    host::{
        self,
        crash::{Activity, ActivityPhase},
        files::ModelPath,
        priority,
    },
};

impl Loader {
    /// An instance, in this process or in a worker, as the configuration and the model's graph say. A file that this server has
    /// not seen is tried before it is loaded into this process.
    pub(in crate::loader) fn instance(&self, request: &LoadRequest, target: &Target) -> Result<Instance, Failure> {
        let path = &request.source.path;
        let load = || {
            let mut file = ModelFile::read(path)?;
            match self.why_in_worker(&request.config, target, file.hazard()) {
                Some(_) => self.in_worker(file, path, target),
                None => {
                    if let Some(deaths) = &self.deaths {
                        deaths.check(&hexadecimal(file.digest()))?;
                    }
                    let passed = self.try_file(request, target, &file)?;
                    file.needs_elements(passed.needs_elements);
                    self.in_process(file, path, target)
                }
            }
        };
        load().map_err(|failure| failure.at(path))
    }

    /// Threads that are started with an instance are at normal priority: CUDA has some of its own.
    fn in_process(&self, file: ModelFile, path: &ModelPath, target: &Target) -> Result<Instance, Failure> {
        let digest = hexadecimal(file.digest());
        let activity = {
            let (model, version) = version_in_load();
            Arc::new(Activity::new(&model, version, &digest))
        };
        let (engine, path, owned_target) = (self.engine.clone(), path.clone(), target.clone());
        // Wherever the session is made, whoever watches over this load may give it up.
        let control = RunControl::here();
        let load = move || {
            let before = RunControl::enter(control);
            let loading = activity.begin(ActivityPhase::Load);
            let instance = engine.load_file(file, &path, &owned_target);
            drop(loading);
            RunControl::enter(before);
            instance.map(|instance| instance.with_activity(activity))
        };
        if target.is_single_threaded_cpu() { load() } else { priority::starting_threads(load) }
    }

    fn in_worker(&self, file: ModelFile, path: &ModelPath, target: &Target) -> Result<Instance, Failure> {
        if target.provider != Provider::Cpu {
            return Err(Failure::lasting(format!(
                "config.toml says isolation = \"process\", and worker processes run models on the CPU only, not on {}: write \
                 device = \"cpu\" as well",
                target.provider
            )));
        }
        let (normal, _) = priority::nice_values();
        let launch = self.engine.launch(normal, host::memory().usable());
        let (engine, path, target) = (self.engine.clone(), path.clone(), target.clone());
        let control = RunControl::here();
        priority::starting_threads(move || {
            let before = RunControl::enter(control);
            let label = path.display().to_string();
            let loaded = engine.load_in_worker(&launch, &label, &file, &path, &target);
            RunControl::enter(before);
            loaded.map_err(WorkerFailure::into_failure)
        })
    }

    /// Why a version runs in a worker, for people; `None` where it runs in this process.
    fn why_in_worker(&self, config: &ModelConfig, target: &Target, hazard: Option<&str>) -> Option<String> {
        let on_cpu = target.provider == Provider::Cpu;
        match (config.isolation, self.isolation) {
            (Some(Isolation::Process), _) => Some("config.toml says isolation = \"process\"".into()),
            (None, Isolation::Process) if on_cpu => Some("the server was started with --isolation process".into()),
            (Some(Isolation::Auto), _) | (None, Isolation::Auto) if on_cpu => hazard.map(str::to_owned),
            _ => None,
        }
    }

    /// The same of an instance.
    pub(in crate::loader) fn isolation_of(
        &self,
        config: &ModelConfig,
        instance: &Instance,
        target: &Target,
    ) -> Option<String> {
        if instance.is_in_worker() { self.why_in_worker(config, target, instance.hazard()) } else { None }
    }

    /// True if the configuration asks for a worker process, whatever the graph is.
    fn always_isolates(&self, config: &ModelConfig) -> bool {
        config.isolation.unwrap_or(self.isolation) == Isolation::Process
    }

    /// Goes on where the probe's made-up inputs have ended an instance's worker: it is started again where the configuration asks
    /// for a worker, and the version serves unbatched.
    ///
    /// # Errors
    /// The configuration does not ask for it.
    pub(in crate::loader) fn outlive_probe(
        &self,
        instance: &mut Instance,
        probe: &mut Probe,
        config: &ModelConfig,
    ) -> Result<(), Failure> {
        let Some(death) = instance.death().map(ToString::to_string) else { return Ok(()) };
        let why = format!("the probe's made-up inputs ended its worker process: it {death}");
        if !self.always_isolates(config) {
            return Err(Failure::lasting(format!("{why}; {ADVICE}, or remove the file")));
        }
        tracing::warn!(error = why, "probe ended its worker process, requests are not batched");
        *probe = Probe::without_run(Err(why));
        instance.restart()
    }
}
