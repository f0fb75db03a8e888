//! ONNX Runtime: the only room that knows `ort`.
//!
//! An [`Engine`] is the loaded library with its one environment; an [`Instance`] is a session with the buffers that batches are
//! stacked in. Every call blocks: who runs them, and when, is the batcher's business.

mod about;
mod batch_buffer;
mod batch_run;
pub(crate) mod cpu;
pub(crate) mod cuda;
mod element;
mod explain;
mod instance;
mod model;
mod model_file;
mod provider;
mod run_control;
mod run_error;
mod session;
mod session_thread;
mod signature;
mod strings;
mod target;
mod tensorrt;
#[cfg(test)]
pub(crate) mod tests;
mod trial;
mod value;
mod weights;
mod worker;

pub use about::version_of;
pub use batch_run::BatchRun;
pub use cuda::driver::gpus;
pub use cuda::graph_sizes::buckets;
pub use explain::is_of_a_gpu;
pub use instance::Instance;
pub use model::Model;
pub use model_file::{ModelFile, NeedsElements, RowAnalysis, RowProof};
pub use run_control::{RunControl, Watcher, is_stop_requested, stop_reason};
pub use target::{Provider, Target};
pub use weights::weights_files;
pub use worker::{Death, Launch, WorkerFailure, serve as serve_worker};

use ort::{
    environment::Environment,
    logging::{LogLevel, LoggerFunction},
    session::{Session, builder::SessionBuilder},
};
use std::{cell::Cell, path::Path, sync::Arc};

use crate::{error::Failure, host::files::ModelPath};
use cpu::allocator::{Account, Pool, Purpose};
use cuda::graph_request::while_none_is_recorded;
use cuda::pinned_memory::{Location, Memory};
use run_control::makes_session;
use worker::Worker;

/// ONNX Runtime, loaded. There is one for the life of the process: a second environment can't be had.
#[derive(Debug, Clone)]
pub struct Engine {
    environment: Environment,
    library: Arc<Path>,
    /// Bytes that one run may hold, where the model's settings don't say otherwise.
    max_run_memory: usize,
    /// Whether the CPU takes the place of every provider.
    #[cfg(test)]
    stand_in: bool,
}

impl Engine {
    /// Loads the library. Telemetry must have been disabled in the environment before this ([`crate::ort_library`]).
    ///
    /// # Errors
    /// The library can't be loaded or is not of the version that this build needs; the message names the file.
    pub fn start(library: &Path) -> Result<Self, String> {
        let failed =
            |error: &dyn std::fmt::Display| format!("{} can't be used as ONNX Runtime: {error}", library.display());
        let builder = ort::init_from(library).map_err(|error| failed(&error))?;
        let builder = builder.with_name("onnxd").with_telemetry(false).with_logger(logger());
        let environment = builder.build().map_err(|error| failed(&error))?;
        // With a logger it writes hundreds of lines for every load, wanted or not.
        if !tracing::enabled!(target: "onnxruntime", tracing::Level::DEBUG) {
            environment.set_log_level(LogLevel::Warning);
        }
        cpu::allocator::register(&environment, library).map_err(|error| failed(&error))?;
        Ok(Engine {
            environment,
            library: library.into(),
            max_run_memory: usize::MAX,
            #[cfg(test)]
            stand_in: false,
        })
    }

    /// The same engine, for which one run may hold so many bytes, and all weights and runs of the process so many together.
    #[must_use]
    pub fn with_memory_limits(self, max_run_memory: usize, total: usize) -> Self {
        cpu::allocator::limit_total(total);
        Engine { max_run_memory, ..self }
    }

    /// Where the library lies.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// What ONNX Runtime says of its own build, such as its branch and commit.
    pub fn build_info(&self) -> &'static str {
        ort::info()
    }

    /// The execution providers that the library was built with, as it calls them. Whether they work is another question.
    pub fn providers(&self) -> Vec<String> {
        provider::compiled_in().unwrap_or_default()
    }

    /// Whether a provider works here: a small model is loaded and run by it. That loads what the provider needs, for good.
    ///
    /// # Errors
    /// Why it does not.
    pub fn try_provider(&self, provider: Provider) -> Result<(), Failure> {
        trial::run(self, provider)
    }

    /// Loads a model to be run on a target.
    ///
    /// # Errors
    /// For people: why the model can't be served, and where ONNX Runtime is the one who says so, its words.
    pub fn load(&self, model: &ModelPath, target: &Target) -> Result<Instance, Failure> {
        self.load_file(ModelFile::read(model)?, model, target)
    }

    /// Loads a model that has been read from `path` to be run on a target.
    ///
    /// # Errors
    /// As those of `load`.
    pub fn load_file(&self, file: ModelFile, path: &ModelPath, target: &Target) -> Result<Instance, Failure> {
        self.instance(file, path.folder(), target)
    }

    /// Loads a model that has been read from `path` into a process of its own, to be run on the CPU. `label` names the
    /// process.
    ///
    /// # Errors
    /// As those of `load`; or there can't be a process, or the model ends it.
    pub fn load_in_worker(
        &self,
        launch: &Launch,
        label: &str,
        file: &ModelFile,
        path: &ModelPath,
        target: &Target,
    ) -> Result<Instance, WorkerFailure> {
        let target = Target { max_run_memory: Some(self.run_limit(target)), ..target.clone() };
        let worker = Worker::load(launch, label, file, path, &target)?;
        Instance::of_worker(worker, file)
    }

    /// How workers are started that use the same library: with this nice value, and so many bytes of memory at most.
    pub fn launch(&self, nice: i32, memory: Option<u64>) -> Launch {
        Launch::new(self.library.clone(), nice, memory)
    }

    fn instance(&self, file: ModelFile, folder: &Path, target: &Target) -> Result<Instance, Failure> {
        #[cfg(test)]
        if self.stand_in && target.provider.gpu().is_some() {
            let instance = self.instance(file, folder, &Target::cpu(target.threads))?;
            return self.staged(instance, vec![Location::CPU], target.is_recorded());
        }
        let (uneven, labels) = (file.uneven.clone(), file.labels.clone());
        let (hazard, zero_extents, rows) = (file.hazard.clone(), file.zero_extents.clone(), file.rows.clone());
        let locations = Location::of(target.provider);
        // To the end, since a session that is no good is dropped there.
        let make = || {
            let (session, pool) = self.counted_session(file, folder, target)?;
            let signature = signature::signature(&session, labels).map_err(Failure::lasting)?;
            let instance = Instance::new(session, signature, uneven, pool).map_err(Failure::lasting)?;
            let instance = instance.with_findings(hazard, zero_extents, rows);
            Ok(if target.provider == Provider::Cpu { instance.keeping_runs() } else { instance })
        };
        let instance = if locations.is_empty() { make() } else { while_none_is_recorded(make) }?;
        self.staged(instance, locations, target.is_recorded())
    }

    /// A session whose memory is counted and limited, with the memory for its runs.
    fn counted_session(
        &self,
        file: ModelFile,
        folder: &Path,
        target: &Target,
    ) -> Result<(Session, Arc<Pool>), Failure> {
        let account = Arc::new(Account::new(self.run_limit(target), file.unwritten.is_some()));
        if !target.provider.waits() {
            account.held().read(file.bytes());
        }
        let weights = Pool::new(account.clone(), Purpose::Weights);
        let session = cpu::allocator::within_load(&weights, || self.session(file, folder, target));
        let session = session.map_err(|error| match cpu::allocator::take_refusal() {
            Some(refusal) => Failure::passing(format!("there is no memory for it: {}", refusal.reason())),
            None => tensorrt::failure(&error.to_string(), target),
        })?;
        Ok((session, Pool::new(account, Purpose::Runs)))
    }

    /// Bytes that one run on a target may hold.
    pub fn run_limit(&self, target: &Target) -> usize {
        target.max_run_memory.unwrap_or(self.max_run_memory)
    }

    /// Has an instance fetch batches from the first of these memories that its session has. Without any it takes them as they
    /// are.
    fn staged(&self, instance: Instance, locations: Vec<Location>, recorded: bool) -> Result<Instance, Failure> {
        let mut why = String::new();
        for location in locations {
            let Some(session) = instance.session() else { break };
            match Memory::new(session.session(), &self.environment, &location) {
                Ok(memory) => return instance.staged(memory, recorded).map_err(Failure::passing),
                Err(error) => why = format!("batches can't be stacked in {location}: {error}"),
            }
            tracing::warn!("{why}");
        }
        if why.is_empty() { Ok(instance) } else { Err(Failure::lasting(why)) }
    }

    fn session(&self, file: ModelFile, folder: &Path, target: &Target) -> ort::Result<Session> {
        #[cfg(test)]
        let target = &if self.stand_in { Target::cpu(target.threads) } else { target.clone() };
        let mut builder = Session::builder(&self.environment)?;
        makes_session(builder.canceler());
        register(&mut builder, &file, target)?;
        for file in file.weights {
            // Copied into the session: the option that would let it point here is not set.
            for name in file.names {
                builder = builder.with_external_initializer_file_in_memory(name, file.contents.clone())?;
            }
        }
        builder
            .with_intra_threads(target.threads.get())?
            .with_inter_threads(1)?
            // Spinning threads would take the cores that the transport and other models need.
            .with_config_entry("session.intra_op.allow_spinning", "0")?
            .with_config_entry("session.inter_op.allow_spinning", "0")?
            // What a model in memory names, it would look for in the process's working directory.
            .with_config_entry("session.model_external_initializers_file_folder_path", folder.to_string_lossy())?
            // A pattern is planned for one shape; batches have many.
            .with_memory_pattern(false)?
            .with_config_entry(cpu::allocator::SESSION_OPTION.0, cpu::allocator::SESSION_OPTION.1)?
            .commit_from_memory(&file.encoded)
    }
}

/// Has a session run by the provider of the target. What it does not take runs on the CPU.
fn register(builder: &mut SessionBuilder, file: &ModelFile, target: &Target) -> ort::Result<()> {
    match target.provider {
        Provider::Cpu => Ok(()),
        Provider::Cuda { gpu } => provider::register_cuda(builder, &target.options_of_cuda(gpu)),
        Provider::TensorRt { gpu } => {
            let name = gpus().ok().and_then(|names| names.get(gpu as usize)).map_or("unknown", String::as_str);
            provider::register_tensorrt(builder, &tensorrt::prepared(target, gpu, name, file))?;
            provider::register_cuda(builder, &target.options_of_cuda(gpu))
        }
        Provider::Other(other) => provider::register_other(builder, other, &target.options_of_other()),
    }
}

/// What ONNX Runtime's C interface says of a call.
#[allow(unsafe_code, reason = "takes over a status of ONNX Runtime's C interface")]
fn checked(status: ort::sys::OrtStatusPtr) -> ort::Result<()> {
    // SAFETY: the status comes from ONNX Runtime and is handed over once.
    unsafe { ort::Error::result_from_status(status) }
}

thread_local! {
    /// Whether this thread runs a batch.
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// ONNX Runtime's log lines go to ours.
fn logger() -> LoggerFunction {
    Arc::new(|level, category, _id, location, message| match level {
        // A run's errors come back to the caller, and clients could fill the log with them.
        _ if RUNNING.get() => tracing::debug!(target: "onnxruntime", category, location, "{message}"),
        LogLevel::Verbose | LogLevel::Info => tracing::debug!(target: "onnxruntime", category, location, "{message}"),
        // Its errors are no errors of the server: whatever fails comes back to the caller, which reports it.
        LogLevel::Warning | LogLevel::Error | LogLevel::Fatal => {
            tracing::warn!(target: "onnxruntime", category, location, "{message}");
        }
    })
}
