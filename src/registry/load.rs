//! Loading one version, aside: nothing here is seen by requests until the registry publishes it.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    in_place::rows_in_place,
    plan::{Key, Wanted},
    probe::{Probe, probe, warm_up},
    system, test_case,
};
use crate::{
    batcher::{Batcher, Compute, Instances, Settings},
    config::{Batching, ModelConfig},
    engine::{Engine, Instance, Target},
    error::Failure,
    metrics::Exposition,
    repository::{Source, Verified},
    router::{Derived, Version},
    tensor::{Dimension, ModelInputs, Signature},
};

/// Files of this size are loaded for all CPUs at once; smaller ones are first tried with one thread, which costs a second
/// load where that turns out too slow.
const SURELY_LARGE: u64 = 16 << 20;

/// A model that answers one row within this time, on one thread, gains nothing from more: the hand-over between them costs as
/// much as they save, and other models need the cores.
const FAST: Duration = Duration::from_millis(1);

/// A version that may serve, and what was found on the way there.
#[derive(Debug)]
pub struct Loaded {
    /// The version.
    pub version: Version,
    /// The part of its load time that probes, test cases and first runs took.
    pub warm_up: Duration,
    /// Time of one row; `None` where no made-up input could be run.
    pub row: Option<Duration>,
    /// Made-up inputs that ran.
    pub example: Option<ModelInputs>,
    /// Why a run takes so many threads.
    pub threads_why: &'static str,
    /// The manifest that holds, if there is one.
    pub manifest: Option<Verified>,
    /// The test cases that were run.
    pub test_cases: TestCases,
}

/// Test cases, all of which passed.
#[derive(Debug, Default)]
pub struct TestCases {
    /// Their files, with their descriptions.
    pub passed: Vec<(PathBuf, Option<String>)>,
    /// What lies beside them and is none.
    pub others: Vec<PathBuf>,
}

impl Loaded {
    /// What is no reason not to serve, but may be a mistake.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for path in self.manifest.iter().flat_map(|manifest| &manifest.unlisted) {
            warnings.push(format!("SHA256SUMS does not list {}", path.display()));
        }
        for path in &self.test_cases.others {
            warnings.push(format!("{} is no test case: their names end in .json", path.display()));
        }
        warnings
    }
}

/// Loads versions.
#[derive(Clone)]
pub struct Loader {
    engine: Engine,
    compute: Compute,
    exposition: Arc<Exposition>,
    io_threads: usize,
}

impl Loader {
    /// A loader for versions that run on `compute`, or on one of so many threads that take turns, and are told in
    /// `exposition`.
    pub fn new(engine: Engine, compute: Compute, exposition: Arc<Exposition>, io_threads: usize) -> Self {
        Loader { engine, compute, exposition, io_threads }
    }

    pub(super) fn exposition(&self) -> Arc<Exposition> {
        self.exposition.clone()
    }

    /// CPUs that runs may use.
    pub(super) fn cpus(&self) -> usize {
        self.compute.cpus()
    }

    /// Loads a version that nobody will ask for, to see whether it would serve.
    ///
    /// # Errors
    /// Why it would not.
    pub fn check(&self, model: &str, version: u64, config: &ModelConfig, source: &Source) -> Result<Loaded, Failure> {
        let wanted = Wanted { source: source.clone(), config: config.for_load() };
        self.load(&(model.to_owned(), version), 1, &wanted)
    }

    /// Loads, checks and warms up a version.
    pub(super) fn load(&self, key: &Key, generation: u64, wanted: &Wanted) -> Result<Loaded, Failure> {
        let loaded = self.load_present(key, generation, wanted);
        if wanted.source.is_current() {
            let limit = wanted.config.max_queue_size;
            return loaded.inspect(|Loaded { version, .. }| version.metrics.loaded(version.load_time, limit));
        }
        let changed = "it changed while it was loaded";
        let changed = Failure::passing(changed).at(&wanted.source.path);
        Err(match loaded {
            Ok(_) => changed,
            Err(failure) => Failure::passing(format!("{}; {}", changed.why, failure.why)),
        })
    }

    /// Loads the files as they are at any time meanwhile.
    fn load_present(&self, (model, version): &Key, generation: u64, wanted: &Wanted) -> Result<Loaded, Failure> {
        let (started, model, version) = (Instant::now(), model.as_str(), *version);
        let (config, path) = (&wanted.config, &wanted.source.path);
        wanted.source.inspect()?;
        let manifest = wanted.source.verify()?;
        let (mut first, threads, threads_why, probe) = self.first_instance(wanted)?;
        let loaded = Instant::now();
        let test_cases = test_case::run_all(&wanted.source, model, &mut first)?;
        let signature = first.signature().clone();
        let in_place = rows_in_place(config, &probe, threads.get(), &mut first);
        let mut warm = probe.took + loaded.elapsed();
        let sharing = if in_place.is_ok() { self.io_threads } else { 0 };
        let sharing = (0..sharing).map(|_| first.sharing()).collect();
        let mut instances = vec![first];
        while instances.len() < config.instances {
            let mut instance = self.instance(path, threads)?;
            warm += warm_up(&mut instance);
            instances.push(instance);
        }
        let settings = Settings {
            in_place_rows: *in_place.as_ref().unwrap_or(&0),
            ..settings(config, &signature, threads, &probe)
        };
        let derived = Derived {
            by_rows: settings.by_rows,
            batching: probe.batching().map(|()| settings.max_batch_size),
            instances: instances.len(),
            intra_op_threads: threads.get(),
            in_place,
        };
        let metrics = self.exposition.version(model, version);
        let load_time = started.elapsed();
        let instances = Instances { compute: instances, in_place: sharing };
        let batcher = Batcher::new(model, version, instances, settings, metrics.clone(), self.compute.clone());
        let version = Version {
            model: model.into(),
            version,
            number: version.to_string().into(),
            generation,
            signature,
            derived,
            load_time,
            metrics,
            batcher,
        };
        let Probe { row, example, .. } = probe;
        Ok(Loaded { version, warm_up: warm, row, example, threads_why, manifest, test_cases })
    }

    fn instance(&self, path: &Path, threads: NonZeroUsize) -> Result<Instance, Failure> {
        if threads == NonZeroUsize::MIN {
            return self.engine.load(path, &Target::cpu(threads)).map_err(|failure| failure.at(path));
        }
        let (engine, model) = (self.engine.clone(), path.to_owned());
        system::starting_threads(move || engine.load(&model, &Target::cpu(threads))).map_err(|failure| failure.at(path))
    }

    /// The first instance, warm, with the number of threads that suits the model, why that is, and what the probe found.
    fn first_instance(&self, wanted: &Wanted) -> Result<(Instance, NonZeroUsize, &'static str, Probe), Failure> {
        let (config, source) = (&wanted.config, &wanted.source);
        let all = NonZeroUsize::new(self.cpus()).unwrap_or(NonZeroUsize::MIN);
        // More than there are CPUs would only take turns on them, and some numbers take memory without end.
        let configured = config.intra_op_threads.and_then(NonZeroUsize::new).map(|threads| threads.min(all));
        let large = source.fingerprint.size() >= SURELY_LARGE;
        let threads = configured.unwrap_or(if large { all } else { NonZeroUsize::MIN });
        let mut instance = self.instance(&source.path, threads)?;
        let mut probe = probe(&mut instance, config);
        let why = match (configured, probe.row) {
            (Some(_), _) => "as config.toml says, one for each CPU at most",
            _ if large => "one for each CPU, as its files are large",
            (None, None) => "no row could be timed",
            (None, Some(row)) if row <= FAST => "a row takes no longer than 1 ms on one",
            (None, Some(_)) if threads == all => "there is one CPU",
            (None, Some(_)) => {
                let mut instance = self.instance(&source.path, all)?;
                probe.took += warm_up(&mut instance);
                return Ok((instance, all, "one for each CPU, as a row takes longer than 1 ms on one", probe));
            }
        };
        Ok((instance, threads, why, probe))
    }
}

/// The batcher's settings.
fn settings(config: &ModelConfig, signature: &Signature, threads: NonZeroUsize, probe: &Probe) -> Settings {
    let joined = probe.batching().is_ok();
    let inputs = signature.inputs.iter().enumerate().filter(|_| joined);
    let open_axes = inputs.flat_map(|(input, spec)| {
        let axes = spec.shape.iter().flatten().enumerate().skip(1);
        let open = axes.filter(|(_, dimension)| matches!(dimension, Dimension::Symbolic(_)));
        open.map(move |(axis, _)| (input, axis))
    });
    Settings {
        by_rows: probe.by_rows.is_ok(),
        joined,
        open_axes: open_axes.collect(),
        max_batch_size: config.max_batch_size,
        max_queue_delay: config.max_queue_delay,
        max_queue_size: config.max_queue_size,
        intra_op_threads: threads.get(),
        in_place_rows: 0,
    }
}

/// Whether the configuration and the signature allow batches at all.
pub(super) fn may_batch(batching: Batching, signature: &Signature) -> Result<(), String> {
    match batching {
        Batching::Off => Err("config.toml says batching = \"off\"".into()),
        Batching::Auto => signature.batch_axis(),
        // Told that axis 0 is the batch, only what rules it out counts: the probe decides.
        Batching::On => signature.open_batch_axis(),
    }
}
