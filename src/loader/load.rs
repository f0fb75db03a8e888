//! The load of one version: session, checks, probe and warm-up. No request sees it until the registry publishes it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    context::Loader,
    inline_budget::rows_in_place,
    instances::WarmInstances,
    loading_version,
    placement::WarmInstance,
    probe::Probe,
    request::{LoadRequest, VersionKey},
    test_case::{self, TestCases},
    zero_extents::zero_extents,
};
use crate::{
    batcher::{Batcher, BatcherSettings, Instances, Levels, LoadWatch},
    config::{Batching, ModelConfig},
    engine::{Instance, Provider, RowAnalysis, RowProof, Target},
    error::Failure,
    metrics::{HeldMemory, StopReason, VersionMemory},
    repository::{Source, Verified},
    router::{Derived, Version},
    tensor::{Dimension, ModelInputs, Signature},
};

/// A loaded version, with the findings of its load.
#[derive(Debug)]
pub struct Loaded {
    /// The version.
    pub version: Version,
    /// The part of its load time that probes, test cases and first runs took.
    pub warm_up: Duration,
    /// Bytes of weights that its sessions hold in the host's memory.
    pub weights_on_host: u64,
    /// Time of one row; `None` where no made-up input could be run.
    pub row: Option<Duration>,
    /// The error of the run with made-up inputs, where none could be run.
    pub probe_error: Option<String>,
    /// Made-up inputs that ran.
    pub example: Option<ModelInputs>,
    /// Why a run takes so many threads.
    pub threads_why: &'static str,
    /// The manifest that holds, if there is one.
    pub manifest: Option<Verified>,
    /// The test cases that were run.
    pub test_cases: TestCases,
    /// Where it does not run as well as it was meant to.
    pub lacking: Vec<String>,
    /// The way in which one request could end the process, as far as the model's graph shows.
    pub hazard: Option<String>,
}

impl Loaded {
    /// Possible mistakes that are no reason not to serve.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.lacking.clone();
        if let Some(hazard) = &self.hazard {
            warnings.push(format!("{hazard}, and every model of this server would stop with it"));
        }
        for path in self.manifest.iter().flat_map(|manifest| &manifest.unlisted) {
            warnings.push(format!("SHA256SUMS does not list {}", path.display()));
        }
        for path in &self.test_cases.others {
            warnings.push(format!("{} is no test case: their names end in .json", path.display()));
        }
        if let Some(Err(why)) = &self.version.derived.graphs {
            warnings.push(format!("config.toml says cuda_graphs = true, and runs are not recorded: {why}"));
        }
        warnings
    }
}

impl Loader {
    /// Loads a version that nobody will ask for, to see whether it would serve.
    ///
    /// # Errors
    /// Why it would not.
    pub fn check(&self, model: &str, version: u64, config: &ModelConfig, source: &Source) -> Result<Loaded, Failure> {
        let request = LoadRequest { source: source.clone(), config: config.for_load() };
        self.load(&(model.to_owned(), version), 1, &request, Arc::new(LoadWatch::new(|| ())))
    }

    /// Loads, checks and warms up a version.
    pub(crate) fn load(
        &self,
        key: &VersionKey,
        generation: u64,
        request: &LoadRequest,
        watch: Arc<LoadWatch>,
    ) -> Result<Loaded, Failure> {
        let max_run_time = self.max_run_time(&request.config);
        let watched = self.compute.watch_load(max_run_time, watch);
        let loaded = self.load_present(key, generation, request);
        // All that was found after that is wrong: no run succeeds any more.
        if let Some(reason) = watched.stop_reason() {
            return Err(stopped(reason, max_run_time).at(&request.source.path));
        }
        if request.source.is_current() {
            let limit = request.config.max_queue_size;
            return loaded.inspect(|Loaded { version, .. }| version.metrics.loaded(version.load_time, limit));
        }
        let changed = "it changed while it was loaded";
        let changed = Failure::passing(changed).at(&request.source.path);
        Err(match loaded {
            Ok(_) => changed,
            Err(failure) => Failure::passing(format!("{}; {}", changed.why, failure.why)),
        })
    }

    /// Loads the files as they are at any time meanwhile.
    fn load_present(
        &self,
        (model, version): &VersionKey,
        generation: u64,
        request: &LoadRequest,
    ) -> Result<Loaded, Failure> {
        let (started, model, version) = (Instant::now(), model.as_str(), *version);
        loading_version::begin_load(model, version);
        let config = &request.config;
        request.source.inspect()?;
        let manifest = request.source.verify()?;
        let mut placed = self.first(request)?;
        if let Some(why) = &placed.fallback {
            tracing::warn!(model, version, reason = why, "version runs on the CPU");
        }
        let WarmInstance { instance: first, target, probe, .. } = &mut placed.first;
        let loaded = Instant::now();
        let test_cases = test_case::run_all(&request.source, model, first)?;
        let in_worker = self.isolation_of(config, first, target);
        if let Some(why) = &in_worker {
            tracing::warn!(model, version, reason = why, "version runs in a worker process");
        }
        let signature = first.signature().clone();
        let hazard = first.hazard().filter(|_| in_worker.is_none()).map(str::to_owned);
        let zero_extents = zero_extents(first, probe, target.provider);
        let in_place = in_place(config, probe, target, first);
        let warm = probe.took + loaded.elapsed();
        let sharing = if in_place.is_ok() { self.io_threads } else { 0 };
        let sharing = (0..sharing).map(|_| first.sharing()).collect();
        let analysis = first.row_analysis().clone();
        let row_proof = analysis.proof.clone();
        let levels = Levels::new(config, self.max_queue_time);
        let settings = BatcherSettings {
            inline_rows: *in_place.as_ref().unwrap_or(&0),
            max_run_time: self.max_run_time(config),
            ..settings(config, &signature, &analysis, target, probe, levels)
        };
        let disagreement = probe.disagreement.clone();
        if let Some(why) = disagreement.as_ref().filter(|_| row_proof == RowProof::Proven) {
            tracing::error!(
                model,
                version,
                error = why,
                hint = "report it with the model: a defect of onnxd, or a kernel that rounds otherwise in a batch",
                "probe contradicts the proof of independent rows, requests are not batched"
            );
        }
        let threads = target.threads;
        let (batching, row, probe_error, example) =
            (probe.batching(), probe.row, probe.refused.clone(), probe.example.clone());
        let (threads_why, graphs, fallback) =
            (placed.first.threads_why, placed.first.graphs.clone(), placed.fallback.clone());
        let WarmInstances { instances, providers, compute, warm_up, warnings: mut lacking } =
            self.instances(request, placed)?;
        if config.batching == Batching::On {
            let why = disagreement.map(|why| format!("config.toml says batching = \"on\", and {why}"));
            lacking.extend(why);
        }
        let derived = Derived {
            rows_independent: settings.rows_independent,
            rows_must_agree: settings.rows_independent
                && (config.batching == Batching::On || signature.batch_axis().is_ok()),
            row_proof,
            batching: batching.map(|()| settings.max_batch_size),
            devices: providers,
            fallback,
            graphs,
            instances: instances.iter().map(|on_device| on_device.instances.len()).sum(),
            intra_op_threads: threads.get(),
            in_place,
            isolation: in_worker,
        };
        let metrics = self.exposition.version(model, version);
        let all = || instances.iter().flat_map(|on_device| &on_device.instances);
        let weights_on_host = watch_memory(metrics.memory(), all().map(Instance::held_memory));
        let load_time = started.elapsed();
        let instances = Instances { compute: instances, inline: sharing };
        let batcher = Batcher::new(model, version, instances, settings, metrics.clone(), compute);
        batcher.restart_idle_workers();
        let version = Version {
            model: model.into(),
            version,
            number: version.to_string().into(),
            generation,
            signature,
            zero_extents,
            derived,
            load_time,
            metrics,
            batcher,
        };
        let warm_up = warm + warm_up;
        Ok(Loaded {
            version,
            warm_up,
            weights_on_host,
            row,
            probe_error,
            example,
            threads_why,
            manifest,
            test_cases,
            lacking,
            hazard,
        })
    }
}

/// The failure of a load of which a run was stopped.
fn stopped(reason: StopReason, max_run_time: Option<Duration>) -> Failure {
    match max_run_time.filter(|_| reason == StopReason::MaxRunTime) {
        Some(most) => Failure::lasting(format!(
            "a run with made-up inputs or of a test case did not end within {most:?} (max_run_time in config.toml, or \
             --max-run-time)"
        )),
        None => Failure::passing("the load was given up"),
    }
}

/// Has the version's metrics count what the sessions hold. Returns the bytes of their weights.
fn watch_memory<'s>(memory: &VersionMemory, sessions: impl Iterator<Item = &'s Arc<HeldMemory>>) -> u64 {
    let mut weights = 0;
    for session in sessions {
        if memory.watch(session) {
            weights += session.weights() as u64;
        }
    }
    weights
}

/// Rows that a batch may have on the threads that read requests, or why it does not run there.
fn in_place(config: &ModelConfig, probe: &Probe, target: &Target, instance: &mut Instance) -> Result<usize, String> {
    match target.provider {
        Provider::Cpu => rows_in_place(config, probe, target.threads.get(), instance),
        other => Err(format!("it runs on {other}")),
    }
}

/// The batcher's settings.
fn settings(
    config: &ModelConfig,
    signature: &Signature,
    analysis: &RowAnalysis,
    target: &Target,
    probe: &Probe,
    levels: Levels,
) -> BatcherSettings {
    let is_batched = probe.batching().is_ok();
    let inputs = signature.inputs.iter().enumerate().filter(|_| is_batched);
    let open_axes = inputs.flat_map(|(input, spec)| {
        let axes = spec.shape.iter().flatten().enumerate().skip(1);
        let open = axes.filter(|(_, dimension)| matches!(dimension, Dimension::Symbolic(_)));
        open.map(move |(axis, _)| (input, axis))
    });
    BatcherSettings {
        rows_independent: probe.rows_independent.is_ok(),
        batched: is_batched,
        shared_extents: signature.shared_extents(),
        required_extents: required_extents(signature, analysis),
        open_axes: open_axes.collect(),
        max_batch_size: config.max_batch_size,
        max_queue_delay: config.max_queue_delay,
        max_queue_size: config.max_queue_size,
        levels,
        slots: if target.provider.waits() { 1 } else { target.threads.get() },
        ran_at_load: probe.row.is_some(),
        inline_rows: 0,
        max_run_time: None,
    }
}

/// Inputs and axes that must have one extent in requests that share a batch. Where nothing is proven, nothing is known of them.
fn required_extents(signature: &Signature, analysis: &RowAnalysis) -> Vec<(usize, usize, usize)> {
    let required = analysis.required_extents.iter().filter(|_| analysis.proof == RowProof::Proven);
    let place = |name: &str| signature.inputs.iter().position(|spec| *spec.name == *name);
    required.filter_map(|((name, axis), extent)| Some((place(name)?, *axis, *extent))).collect()
}
