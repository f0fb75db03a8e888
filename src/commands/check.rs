//! `onnxd check`: loads versions exactly as the server would, without a socket, and reports the findings.

mod example;
mod header;
mod json;
mod report;
mod text;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    num::NonZeroUsize,
    process::ExitCode,
    sync::Arc,
    thread,
};

use super::cli;
use crate::{
    batcher::Compute,
    config::{ByteSize, Folders, Isolation},
    engine::Engine,
    loader::{Loaded, Loader, Trials},
    metrics::Exposition,
    ort_library,
    repository::{Repository, RepositoryModel, Scan, Source},
    router::{Meta, ModelEntry, Router, Routing, Table, Version, VersionEntry},
    server::derived_limits::run_memory,
    tensor::{Datatype, Dimension, OutputTensor, TensorSpec},
    traffic::{STABLE, Traffic},
};
use report::{LoadFindings, Served, VersionReport, shape};

/// Checks the models at a path, with the settings that a server would have. Success means that all of them would serve.
///
/// # Errors
/// There is nothing to check, or nothing can be checked here; the message says why.
pub fn check(options: &cli::Check) -> Result<ExitCode, String> {
    let as_json = options.json;
    let repository = Repository::open_part(&options.path, Folders::of(options.allow_links_to.as_ref()))?;
    let scan = repository.scan(&Scan::default())?;
    let (unserved, models) = (repository.unserved(&scan), scan.models);
    if models.is_empty() {
        return Err(unserved.join("\n"));
    }
    let bench = CheckHarness::set_up(options)?;
    let mut stdout = StdoutWriter(io::stdout().lock());
    let mut document = json::JsonReport::new(bench.engine.build_info());
    let mut all_well = true;
    for (name, model) in &models {
        let problem = problem(model);
        if let Some(why) = &problem {
            all_well = false;
            document.add_problem(name, why);
            if !as_json {
                stdout.write(&text::problem(name, why));
            }
        }
        // A server loads no version of a model with a problem.
        for (&version, source) in model.versions.iter().filter(|_| model.problem.is_none()) {
            let checked = bench.check(name, model, version, source);
            all_well &= checked.outcome.is_ok();
            if as_json {
                document.add(&checked);
            } else {
                stdout.write(&text::version(&checked));
            }
        }
    }
    bench.compute.stop();
    for why in &unserved {
        all_well = false;
        if !as_json {
            stdout.write(&text::unserved(why));
        }
    }
    document.unserved = unserved;
    if as_json {
        stdout.write(&document.finish(all_well));
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reason why a model would not serve, whatever its versions are.
fn problem(model: &RepositoryModel) -> Option<String> {
    let no_version = || model.versions.is_empty().then(|| "its folder holds no version".to_owned());
    model.problem.clone().or_else(no_version).or_else(|| unreachable(model))
}

/// Reason why requests that name no version would find none, though there are versions.
fn unreachable(model: &RepositoryModel) -> Option<String> {
    let Traffic { weights, aliases } = model.config.traffic();
    let known = || model.versions.keys().map(u64::to_string).collect::<Vec<_>>().join(", ");
    if !weights.is_empty() {
        let has_weight = model.versions.keys().any(|version| weights.of(*version) > 0.0);
        return (!has_weight)
            .then(|| format!("config.toml gives weight to none of the versions that there are here, {}", known()));
    }
    let stable = aliases.get(STABLE).filter(|stable| !model.versions.contains_key(stable))?;
    Some(format!("config.toml says stable = {stable}, and there is no such version here, only {}", known()))
}

/// The parts of a server that load and run versions, without sockets.
struct CheckHarness {
    engine: Engine,
    /// Bytes that a run may hold if the model's configuration sets no limit.
    max_run_memory: usize,
    compute: Compute,
    loader: Loader,
    router: Router,
    runtime: tokio::runtime::Runtime,
}

impl CheckHarness {
    fn set_up(options: &cli::Check) -> Result<Self, String> {
        let library = ort_library::locate().map_err(|error| error.to_string())?;
        let (max_run_memory, together) = run_memory(options.max_run_memory, None);
        let engine = Engine::start(&library)?.with_memory_limits(max_run_memory, together);
        let cpus = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let compute = Compute::start(cpus).map_err(|error| format!("the compute threads can't be started: {error}"))?;
        let exposition = Exposition::new(&[]);
        let router = Router::new(exposition.server().clone());
        let loader = Loader::new(engine.clone(), compute.clone(), Arc::new(exposition), cpus)
            .on(options.device)
            .with_max_run_time(options.max_run_time)
            .isolating(Isolation::Auto, Some(Trials::forgetful()));
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.map_err(|error| format!("the main thread's runtime can't be started: {error}"))?;
        Ok(CheckHarness { engine, max_run_memory, compute, loader, router, runtime })
    }

    fn check<'a>(
        &self,
        name: &'a str,
        model: &'a RepositoryModel,
        version: u64,
        source: &'a Source,
    ) -> VersionReport<'a> {
        let loaded = self.loader.check(name, version, &model.config, source);
        let outcome = loaded.map(|loaded| self.ask(loaded, model)).map_err(|failure| failure.why);
        // Files that are no model are not read.
        let header = source.inspect().is_ok().then(|| header::read(&source.path)).flatten();
        VersionReport { model: name, version, source, header, warning: model.warning(), outcome }
    }

    /// Runs a request on the version as a client would.
    fn ask(&self, loaded: Loaded, model: &RepositoryModel) -> Served {
        let mut warnings = loaded.warnings();
        let Loaded { version, row, probe_error, example, threads_why, manifest, test_cases, .. } = loaded;
        let max_run_memory = model.config.max_run_memory.map_or(self.max_run_memory, |ByteSize(bytes)| bytes);
        let version = Arc::new(version);
        let versions = BTreeMap::from([(version.version, VersionEntry::Ready(version.clone()))]);
        let entry = ModelEntry::new(versions, Routing::default(), None);
        self.router.publish(Table { models: [(version.model.to_string(), entry)].into(), ..Table::default() });
        let mut outputs = Vec::new();
        let example = example::find(&version, example, |request| {
            let pending =
                self.router.submit(request, &Meta::default()).map_err(|rejected| rejected.error.to_string())?;
            let answer = self.runtime.block_on(pending.answer()).map_err(|error| error.to_string())?;
            outputs = answer.output.tensors;
            Ok(())
        });
        self.router.publish(Table::default());
        warnings.extend(self::warnings(&version, &outputs));
        let found = LoadFindings { row, probe_error, max_run_memory, threads_why, manifest, test_cases };
        Served { version, found, warnings, example }
    }
}

/// Warnings about a version that would serve.
fn warnings(version: &Version, outputs: &[OutputTensor]) -> Vec<String> {
    let signature = &version.signature;
    let mut warnings = Vec::new();
    for output in outputs {
        let declared = signature.outputs.iter().find(|spec| spec.name == output.name);
        if let Some(spec) = declared.filter(|spec| !fits(spec, output.tensor.shape().extents())) {
            warnings.push(format!(
                "output '{}' is declared with shape {}, and came with shape {}: clients that rely on the first will fail",
                spec.name,
                shape(spec),
                output.tensor.shape()
            ));
        }
    }
    let halves = signature.outputs.iter().find(|spec| matches!(spec.datatype, Datatype::Fp16 | Datatype::Bf16));
    if let Some(spec) = halves.filter(|_| version.derived.batching.is_ok()) {
        warnings.push(format!(
            "output '{}' is {}: in a batch its last two bits may differ from those of a row alone",
            spec.name, spec.datatype
        ));
    }
    warnings
}

fn fits(spec: &TensorSpec, extents: &[usize]) -> bool {
    let Some(shape) = &spec.shape else { return true };
    let fits = |(dimension, extent): (&Dimension, &usize)| match dimension {
        Dimension::Fixed(declared) => declared == extent,
        Dimension::Symbolic(_) => true,
    };
    shape.len() == extents.len() && shape.iter().zip(extents).all(fits)
}

/// Output of the findings. Ignores a reader that has closed stdout.
struct StdoutWriter(io::StdoutLock<'static>);

impl StdoutWriter {
    fn write(&mut self, text: &str) {
        let _ = self.0.write_all(text.as_bytes()).and_then(|()| self.0.flush());
    }
}
