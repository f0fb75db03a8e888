//! ONNX Runtime's environment: the loaded library, from which sessions are made.

#[cfg(test)]
mod test_access;

use ort::{environment::Environment, logging::LogLevel, session::Session};
use std::{path::Path, sync::Arc};

use super::{
    cpu::allocator::{self, Account, Pool, Purpose},
    cuda::{
        graph_capture::while_no_graph_is_captured,
        pinned_memory::{Location, PinnedAllocator},
    },
    instance::Instance,
    log::logger,
    model_file::ModelFile,
    provider,
    provider_setup::ProviderSetup,
    run_control::makes_session,
    signature,
    target::{Provider, Target},
    tensorrt,
};
use crate::{error::Failure, host::files::ModelPath};

/// ONNX Runtime, loaded. There is one for the life of the process: a second environment can't be had.
#[derive(Debug, Clone)]
pub struct Engine {
    environment: Environment,
    library: Arc<Path>,
    /// Bytes that one run may hold, where the model's settings don't say otherwise.
    max_run_memory: usize,
    /// Setup of sessions for a provider.
    providers: ProviderSetup,
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
        allocator::register(&environment, library).map_err(|error| failed(&error))?;
        Ok(Engine {
            environment,
            library: library.into(),
            max_run_memory: usize::MAX,
            providers: ProviderSetup::default(),
        })
    }

    /// The same engine, for which one run may hold so many bytes, and all weights and runs of the process so many together.
    #[must_use]
    pub fn with_memory_limits(self, max_run_memory: usize, total: usize) -> Self {
        allocator::limit_total(total);
        Engine { max_run_memory, ..self }
    }

    /// Path of the library.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// ONNX Runtime's description of its own build, such as its branch and commit.
    pub fn build_info(&self) -> &'static str {
        ort::info()
    }

    /// The execution providers that the library was built with, as it calls them. Whether they work is another question.
    pub fn providers(&self) -> Vec<String> {
        provider::compiled_in().unwrap_or_default()
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

    /// Loads a model that lies in this folder.
    pub(super) fn instance(&self, file: ModelFile, folder: &Path, target: &Target) -> Result<Instance, Failure> {
        let (uneven, labels) = (file.uneven.clone(), file.labels.clone());
        let (hazard, zero_extents, rows) = (file.hazard.clone(), file.zero_extents.clone(), file.rows.clone());
        let locations = (self.providers.locations)(target.provider);
        // To the end, since a session that is no good is dropped there.
        let make = || {
            let (session, pool) = self.counted_session(file, folder, target)?;
            let signature = signature::signature(&session, labels).map_err(Failure::lasting)?;
            let instance = Instance::new(session, signature, uneven, pool).map_err(Failure::lasting)?;
            let instance = instance.with_findings(hazard, zero_extents, rows);
            Ok(if target.provider == Provider::Cpu { instance.with_cached_binding() } else { instance })
        };
        let instance = if locations.is_empty() { make() } else { while_no_graph_is_captured(make) }?;
        self.on_device(instance, locations, target.captures_graphs())
    }

    /// A session whose memory is counted and limited, with the memory for its runs.
    pub(super) fn counted_session(
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
        let session = allocator::within_load(&weights, || self.session(file, folder, target));
        let session = session.map_err(|error| match allocator::take_refusal() {
            Some(refusal) => Failure::passing(format!("there is no memory for it: {}", refusal.reason())),
            None => tensorrt::failure(&error, target),
        })?;
        Ok((session, Pool::new(account, Purpose::Runs)))
    }

    /// Bytes that one run on a target may hold.
    pub fn run_limit(&self, target: &Target) -> usize {
        target.max_run_memory.unwrap_or(self.max_run_memory)
    }

    /// Has an instance run on its session's device, with batches stacked in the first of these memories that the session has.
    /// Without any, the provider takes batches from where they are.
    pub(super) fn on_device(
        &self,
        instance: Instance,
        locations: Vec<Location>,
        captures_graphs: bool,
    ) -> Result<Instance, Failure> {
        let mut why = String::new();
        for location in locations {
            let Some(session) = instance.session() else { break };
            match PinnedAllocator::new(session.session(), &self.environment, &location) {
                Ok(memory) => return instance.on_device(memory, captures_graphs).map_err(Failure::passing),
                Err(error) => {
                    tracing::warn!(allocator = %location, %error, "batches can't be stacked in this memory");
                    why = format!("batches can't be stacked in {location}: {error}");
                }
            }
        }
        if why.is_empty() { Ok(instance) } else { Err(Failure::lasting(why)) }
    }

    fn session(&self, file: ModelFile, folder: &Path, target: &Target) -> ort::Result<Session> {
        let mut builder = Session::builder(&self.environment)?;
        makes_session(builder.canceler());
        (self.providers.register)(&mut builder, &file, target)?;
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
            // Without a folder, a model in memory looks for its external data in the process's working directory.
            .with_config_entry("session.model_external_initializers_file_folder_path", folder.to_string_lossy())?
            // A pattern is planned for one shape; batches have many.
            .with_memory_pattern(false)?
            .with_config_entry(allocator::SESSION_OPTION.0, allocator::SESSION_OPTION.1)?
            .commit_from_memory(&file.encoded)
    }
}
