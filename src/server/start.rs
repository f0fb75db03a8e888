//! Starts and ends a server.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::sync::watch;

use super::{
    access_log::Writer,
    config::{AccessLogConfig, DrainConfig, ModelDefaults, RepositoryConfig, ServerConfig},
    connection_limit::ConnectionLimit,
    derived_limits::{self, run_memory},
    io_threads::IoThreads,
    port::Port,
    ports::{self, Addresses, Sockets},
    readiness, scrape_gauges,
};
use crate::{
    api::{
        AccessLog, CodecPool, Context, SERVER_VERSION, ServerPhase, Service,
        admin::{Callers, Tokens},
    },
    batcher::Compute,
    engine::Engine,
    host::{self, gpus},
    loader::{Deaths, Loader, Trials},
    metrics::{AccessLogMetrics, Exposition},
    ort_library,
    registry::{Control, LoadProgress, Options, Registry},
    repository::Repository,
    router::Router,
    state::{FolderStore, default_folder},
};

/// A running server. If it is dropped without [`Server::shutdown`], its ports close and nothing new is loaded.
pub struct Server {
    pub(super) addresses: Addresses,
    pub(super) ports: Vec<Port>,
    pub(super) registry: JoinHandle<usize>,
    pub(super) stop: StopGuard,
    pub(super) compute: Compute,
    pub(super) context: Context,
    pub(super) phase: watch::Sender<ServerPhase>,
    pub(super) access_log: Option<(Arc<AccessLog>, Writer)>,
    pub(super) drain: DrainConfig,
}

impl Server {
    /// Starts a server. Models are loaded after it returns, on a thread of the server.
    ///
    /// Connections to the metrics and admin ports live on the runtime of the caller, which must have blocking threads to spare.
    /// Inferences have threads of their own.
    ///
    /// # Errors
    /// The repository, ONNX Runtime or a port can't be used, or the system gives no more threads. The message is for people, with
    /// the fix.
    pub async fn start(config: ServerConfig) -> Result<Self, String> {
        Server::start_on(Sockets::default(), config, |_| ()).await
    }

    /// Starts a server as [`Server::start`] does, on the sockets that are open already, if any. Reports the progress of the first
    /// loads.
    ///
    /// # Errors
    /// The errors of [`Server::start`].
    pub async fn start_on(
        sockets: Sockets,
        config: ServerConfig,
        progress: impl Fn(LoadProgress<'_>) + Send + 'static,
    ) -> Result<Self, String> {
        // Opened before anything else: a wrong folder is the commonest mistake.
        let repository = open_repository(&config.repository)?;
        let engine = start_engine(&config)?;
        let cpus = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        tracing::info!(
            server_version = SERVER_VERSION,
            onnxruntime = engine.build_info(),
            library = %engine.library().display(),
            cpus,
            "server starting"
        );
        // The library's own report: it may be another than the one that the build fetched.
        let exposition =
            Arc::new(Exposition::new(&[("version", SERVER_VERSION), ("onnxruntime", engine.build_info())]));
        let metrics = exposition.server().clone();
        // A single CPU is better spent on the client that sends the next request. The CPU time of a control group is better spent
        // on answers.
        let may_poll = cpus > 1 && host::cpus().limit.is_none();
        let busy_poll = if may_poll { config.busy_poll } else { Duration::ZERO };
        let started = |what: &str, error: &dyn std::fmt::Display| format!("{what} can't be started: {error}");
        let io = IoThreads::start(cpus, busy_poll, &metrics).map_err(|error| started("the I/O threads", &error))?;
        let compute = Compute::start(cpus).map_err(|error| started("the compute threads", &error))?;
        let codecs =
            CodecPool::start(cpus, metrics.codecs.clone()).map_err(|error| started("the codec threads", &error))?;
        let access_log =
            config.access_log.as_ref().map(|log| start_access_log(log, metrics.access_log.clone())).transpose()?;
        let router = Arc::new(Router::new(metrics));
        let callers = match config.admin.token_file.clone().map(Tokens::open).transpose()? {
            Some(tokens) => Callers::Bearers(Arc::new(tokens)),
            None if config.admin.is_insecure => Callers::Any,
            None => Callers::Local,
        };
        let state_folder = state_folder(&repository, &config);
        let options = registry_options(repository, &config);
        let loader = Loader::new(engine, compute.clone(), exposition.clone(), cpus);
        let loader = with_defaults(loader, &config.models, &state_folder);
        let stop = Arc::new(AtomicBool::new(false));
        let store = Box::new(FolderStore::open(state_folder)?);
        let registry = Registry::new(options, store, loader, router.clone(), stop.clone());
        let control = registry.control();
        let phase = watch::Sender::new(ServerPhase::Starting);
        let context = Context {
            router,
            phase: phase.subscribe(),
            ready_when: config.ready,
            limits: Arc::new(derived_limits::limits(&config.clients)),
            codecs,
            compute: compute.clone(),
            access_log: access_log.as_ref().map(|(log, _)| log.clone()),
            ports: Arc::default(),
        };
        let transport = &exposition.server().transport;
        let places = ConnectionLimit::new(derived_limits::place_limits(&config.clients), Some(transport.clone()));
        let read = scrape_gauges::reader(&config, &context, control.clone(), &io, places.limits().total, cpus);
        let scraped = Service::metrics(&context, exposition.clone(), read);
        let services = [
            Service::http(&context),
            Service::grpc(&context),
            scraped.map_err(|error| started("the metrics' thread", &error))?,
            Service::admin(&context, control.clone(), callers),
        ];
        let (addresses, ports) = ports::open(sockets, &config, &context, &places, transport, services, &io).await?;
        tokio::spawn(readiness::report(context.clone(), addresses.http));
        let registry = follow(registry, &config, phase.clone(), progress)?;
        let stop = StopGuard { stop, control };
        let drain = config.drain;
        Ok(Server { addresses, ports, registry, stop, compute, context, phase, access_log, drain })
    }

    /// Addresses that the ports are bound to.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Waits until the server is ready: the first loads are over, and all required models serve.
    pub async fn ready(&self) {
        let mut context = self.context.clone();
        let mut tables = context.router.changes();
        while !context.is_ready() {
            let ended = tokio::select! {
                changed = context.phase.changed() => changed.is_err(),
                changed = tables.changed() => changed.is_err(),
            };
            if ended {
                return;
            }
        }
    }

    /// Control of the models: changes, states, and figures of versions.
    pub fn control(&self) -> &Control {
        &self.stop.control
    }

    /// The access log, if there is one.
    pub(super) fn access_log(&self) -> Option<Arc<AccessLog>> {
        self.access_log.as_ref().map(|(log, _)| log.clone())
    }
}

/// Guard that stops the registry from starting anything new, once it is dropped.
pub(super) struct StopGuard {
    stop: Arc<AtomicBool>,
    control: Control,
}

impl Drop for StopGuard {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.control.wake();
    }
}

/// Starts ONNX Runtime, with the limits of memory. A process has one environment of it, which all its servers share. So they
/// share the limit of all weights and runs, which the last server sets.
fn start_engine(config: &ServerConfig) -> Result<Engine, String> {
    static ENGINE: Mutex<Option<Engine>> = Mutex::new(None);
    let mut started = ENGINE.lock().unwrap_or_else(PoisonError::into_inner);
    let engine = match &*started {
        Some(engine) => engine.clone(),
        None => {
            let library = ort_library::locate().map_err(|error| error.to_string())?;
            started.insert(Engine::start(&library)?).clone()
        }
    };
    let (one_run, together) = run_memory(config.models.max_run_memory, config.clients.request_memory);
    gpus::open_driver();
    Ok(engine.with_memory_limits(one_run, together))
}

/// Applies the settings of models that `config.toml` does not give to a loader.
fn with_defaults(loader: Loader, models: &ModelDefaults, state_folder: &Path) -> Loader {
    let trials = models.has_trials.then(|| Trials::open(state_folder));
    loader
        .on(models.device)
        .isolating(models.isolation, trials)
        .remembering(Deaths::open(state_folder))
        .with_max_run_time(models.max_run_time)
        .with_max_queue_time(models.max_queue_time)
}

/// Starts the thread on which the registry loads the models and follows the repository.
fn follow(
    mut registry: Registry,
    config: &ServerConfig,
    phase: watch::Sender<ServerPhase>,
    progress: impl Fn(LoadProgress<'_>) + Send + 'static,
) -> Result<JoinHandle<usize>, String> {
    let period = config.loads.poll_interval;
    let work = move || {
        if let Err(why) = registry.load_all(&progress) {
            tracing::error!(error = why, "model repository unreadable, retrying");
        }
        // Unless the server has begun to drain meanwhile.
        phase.send_if_modified(|now| {
            let starting = *now == ServerPhase::Starting;
            if starting {
                *now = ServerPhase::Serving;
            }
            starting
        });
        registry.follow(period)
    };
    let thread = thread::Builder::new().name("registry".into()).spawn(work);
    thread.map_err(|error| format!("the registry's thread can't be started: {error}"))
}

/// Starts the access log with its writer.
fn start_access_log(config: &AccessLogConfig, metrics: AccessLogMetrics) -> Result<(Arc<AccessLog>, Writer), String> {
    let log = Arc::new(AccessLog::new(config.sample, metrics));
    let writer = Writer::start(log.clone(), &config.path)?;
    Ok((log, writer))
}

/// Opens the repository at a path. A model that is served alone is logged, as that may be unintended.
fn open_repository(config: &RepositoryConfig) -> Result<Repository, String> {
    let mut repository = Repository::open(&config.path, config.ready_marker.clone(), &config.link_targets)
        .map_err(|why| format!("the model repository {why}"))?;
    if let Some(name) = &config.model_name {
        repository = repository.with_model_name(name)?;
    }
    if let Some((model, path)) = repository.only_model() {
        tracing::info!(model, path = %path.display(), "serving one model, the path is no folder of models");
    }
    Ok(repository)
}

/// The folder of the desired state, of trials and of deaths.
fn state_folder(repository: &Repository, config: &ServerConfig) -> PathBuf {
    let default = || default_folder(repository.path(), &|name| std::env::var_os(name));
    config.loads.state_folder.clone().unwrap_or_else(default)
}

fn registry_options(repository: Repository, config: &ServerConfig) -> Options {
    Options {
        control: config.loads.control,
        memory: config.loads.memory,
        load_timeout: config.loads.timeout,
        repository,
    }
}
