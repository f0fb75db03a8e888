//! The server as a whole: builds every room, opens the doors, and closes them again in order.

mod access_log;
mod activity;
pub(crate) mod addresses;
mod backlog;
mod blocking;
mod client_stream;
mod coarse_timer;
mod connection;
mod connection_limit;
mod connection_limits;
mod half_close;
mod http1_fast_path;
mod http2_flood;
mod http2_frames;
mod io_threads;
pub(crate) mod limit_settings;
mod log;
mod log_queue;
mod poll_once;
mod port;
mod readiness;
mod scrape_gauges;
mod signals;

use std::{
    num::NonZeroUsize,
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::{net::TcpListener, runtime::Handle, sync::watch, task::JoinSet};

use crate::{
    api::{
        AccessLog, CodecPool, Context, Lifecycle, SERVER_VERSION, Service,
        admin::{Callers, Tokens},
    },
    batcher::Compute,
    clock,
    commands::cli::{MemoryFull, Settings, Trial, UnknownVariable},
    config::{ByteSize, Folders, Listen},
    engine::Engine,
    host::{self, give_way, gpus},
    loader::{Deaths, Loader, Trials},
    metrics::{AccessLogMetrics, Exposition, TransportMetrics},
    ort_library,
    registry::{MemoryLimit, Options, Registry},
    repository::Repository,
    router::Router,
    state::default_folder,
};
use access_log::Writer;
use connection::Terms;
use connection_limit::{PlaceLimits, Places};
use connection_limits::ConnectionLimits;
use io_threads::IoThreads;
use log::Console;
use port::Door;
use signals::Signals;

pub use log::report;

/// How long clients of HTTP/1.1 that keep a connection open are given to send one more request on it, whose answer then tells
/// them that the connection closes. Closing at once could meet a request on its way.
const KEEP_ALIVE_GRACE: Duration = Duration::from_secs(1);

/// Connections to the port of metrics at most.
const SCRAPERS: usize = 64;

/// Connections to the port of the admin API at most.
const ADMINS: usize = 256;

/// Admin calls that take locks or write to the disk at once, at most.
const ADMIN_THREADS: usize = 64;

/// Serves the repository until a signal comes. Warns of the variables of the environment that are unknown. Returns the exit code of an orderly end.
///
/// # Errors
/// The server can't start; the message says why and what to do.
pub fn serve(folder: &Path, settings: &Settings, unknown: &[UnknownVariable]) -> Result<ExitCode, String> {
    let console = Console::start(settings)?;
    for variable in unknown {
        tracing::warn!(variable = variable.name, "{variable}");
    }
    let (limits, connections) =
        (Arc::new(limit_settings::limits(settings)), limit_settings::connection_limits(settings));
    clock::check()?;
    // Before anything is built: a wrong folder is the commonest mistake.
    let repository = open_repository(folder, settings)?;
    let library = ort_library::locate().map_err(|error| error.to_string())?;
    let (one_run, together) = limit_settings::run_memory(settings.max_run_memory, settings.request_memory);
    let engine = Engine::start(&library)?.with_memory_limits(one_run, together);
    gpus::look();
    let cpus = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    tracing::info!(version = SERVER_VERSION, cpus, library = %library.display(), "{}", engine.build_info());
    let runtime =
        blocking::build(tokio::runtime::Builder::new_current_thread().on_thread_start(give_way), ADMIN_THREADS);
    let runtime = runtime.map_err(|error| format!("the main thread's runtime can't be started: {error}"))?;
    // Its own word: the library may be another than the one that the build fetched.
    let exposition = Arc::new(Exposition::new(&[("version", SERVER_VERSION), ("onnxruntime", engine.build_info())]));
    let metrics = exposition.server().clone();
    // One CPU is better spent on whoever sends the next request, and what a control group allows on answers.
    let spare = cpus > 1 && host::cpus().limit.is_none();
    let look = if spare { settings.busy_poll } else { Duration::ZERO };
    let io = IoThreads::start(cpus, look, &metrics);
    let io = io.map_err(|error| format!("the I/O threads can't be started: {error}"))?;
    let compute = Compute::start(cpus).map_err(|error| format!("the compute threads can't be started: {error}"))?;
    let codecs = CodecPool::start(cpus, metrics.codecs.clone())
        .map_err(|error| format!("the codec threads can't be started: {error}"))?;
    let (access_log, writer) = access_log(settings, metrics.access_log.clone())?.unzip();
    let router = Arc::new(Router::new(metrics));
    let callers = match settings.admin_token_file.clone().map(Tokens::open).transpose()? {
        Some(tokens) => Callers::Bearers(Arc::new(tokens)),
        None if settings.admin_insecure => Callers::Any,
        None => Callers::Local,
    };
    let options = registry_options(repository, settings);
    let trials = (settings.isolation.trial == Trial::On).then(|| Trials::open(&options.state_folder));
    let loader = Loader::new(engine, compute.clone(), exposition.clone(), cpus).on(settings.device);
    let loader =
        loader.isolating(settings.isolation.isolation, trials).remembering(Deaths::open(&options.state_folder));
    let loader = loader.with_max_run_time(settings.max_run_time).with_max_queue_time(settings.max_queue_time);
    let stop = Arc::new(AtomicBool::new(false));
    let mut registry = Registry::new(options, loader, router.clone(), stop.clone())?;
    let control = registry.control();
    let lifecycle = watch::Sender::new(Lifecycle::Starting);
    let context = Context {
        router,
        lifecycle: lifecycle.subscribe(),
        ready_when: settings.ready,
        limits,
        codecs,
        compute: compute.clone(),
        access_log: access_log.clone(),
        ports: Arc::default(),
    };

    let cut_off = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        tokio::spawn(signals::at_hangup(move || match &access_log {
            Some(log) => log.reopen(),
            None => tracing::info!("SIGHUP: nothing to reopen, as there is no access log (--access-log)"),
        })?);
        let admin = Service::admin(&context, control.clone(), callers);
        let places = Places::new(limit_settings::place_limits(settings), Some(exposition.server().transport.clone()));
        let read = scrape_gauges::reader(settings, &context, control.clone(), &io, places.limits().total, cpus);
        let scraped = Service::metrics(&context, exposition.clone(), read);
        let scraped = scraped.map_err(|error| format!("the metrics' thread can't be started: {error}"))?;
        let transport = &exposition.server().transport;
        let services = [Service::http(&context), Service::grpc(&context), scraped, admin];
        let doors = open_doors(settings, Arc::new(connections), &context, places, transport, services, &io).await?;
        let http = doors.iter().find(|door| door.protocol == "http").and_then(|door| door.address);
        tokio::spawn(readiness::report(context.clone(), http));
        let period = settings.poll_interval;
        let started = lifecycle.clone();
        let registry = thread::Builder::new().name("registry".into()).spawn(move || {
            if let Err(why) = registry.load_all(&|event| console.progress(&event)) {
                tracing::error!("{why}; it is tried again");
            }
            // Unless the end has begun meanwhile.
            started.send_if_modified(|now| {
                let starting = *now == Lifecycle::Starting;
                if starting {
                    *now = Lifecycle::Serving;
                }
                starting
            });
            registry.follow(period)
        });
        let registry = registry.map_err(|error| format!("the registry's thread can't be started: {error}"))?;

        // Once it has started the threads that serve, which would inherit it.
        give_way();
        let signal = signals.next().await;
        tracing::info!(signal, "draining: not ready any more, finishing what is in flight");
        tokio::spawn(signals.exit_at_next());
        lifecycle.send_replace(Lifecycle::Draining);
        stop.store(true, Ordering::Relaxed);
        control.wake();
        tokio::time::sleep(settings.drain_delay).await;
        let limit = settings.drain_timeout;
        if !close_doors(doors, limit).await {
            return Ok(None);
        }
        Ok::<_, String>(end_threads(registry, compute, limit).await)
    })?;
    if let Some(writer) = writer {
        writer.end();
    }
    tracing::info!("stopped");
    log::flush();
    match cut_off {
        Some(0) => {}
        // What was abandoned long ago is no reason to call the end disorderly.
        Some(_) => signals::exit_now(0),
        // What still runs is not waited for; it may run for ever.
        None => signals::exit_now(1),
    }
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

/// The access log, where there is to be one, and what writes it.
fn access_log(settings: &Settings, metrics: AccessLogMetrics) -> Result<Option<(Arc<AccessLog>, Writer)>, String> {
    let Some(path) = &settings.access_log else { return Ok(None) };
    let log = Arc::new(AccessLog::new(settings.access_log_sample, metrics));
    let writer = Writer::start(log.clone(), path)?;
    Ok(Some((log, writer)))
}

/// The repository at a path. What is served alone is named: it may not be what was meant.
fn open_repository(path: &Path, settings: &Settings) -> Result<Repository, String> {
    let links = Folders::of(settings.allow_links_to.as_ref());
    let mut repository = Repository::open(path, settings.ready_marker.clone(), links)
        .map_err(|why| format!("the model repository {why}"))?;
    if let Some(name) = &settings.model_name {
        repository = repository.with_model_name(name)?;
    }
    if let Some((model, path)) = repository.only_model() {
        tracing::info!(model, path = %path.display(), "serving one model, as the path is not a folder of models");
    }
    Ok(repository)
}

/// What the registry is told of the settings.
fn registry_options(repository: Repository, settings: &Settings) -> Options {
    let state_folder = || default_folder(repository.path(), &|name| std::env::var_os(name));
    Options {
        state_folder: settings.state_dir.clone().unwrap_or_else(state_folder),
        control: settings.model_control,
        memory: settings
            .model_memory
            .map(|bytes| MemoryLimit { bytes, unload_first: settings.model_memory_full == MemoryFull::UnloadFirst }),
        load_timeout: settings.load_timeout,
        repository,
    }
}

/// Opens a port for each protocol that is not off, and logs where.
async fn open_doors(
    settings: &Settings,
    limits: Arc<ConnectionLimits>,
    context: &Context,
    places: Arc<Places>,
    transport: &TransportMetrics,
    [http, grpc, metrics, admin]: [Service; 4],
    io: &IoThreads,
) -> Result<Vec<Door>, String> {
    let PlaceLimits { total, per_client, .. } = places.limits();
    let (max_run_memory, _) = limit_settings::run_memory(settings.max_run_memory, settings.request_memory);
    tracing::info!(
        request_memory = %ByteSize(context.limits.budget.limit()),
        max_run_memory = %ByteSize(max_run_memory),
        max_connections = total,
        max_connections_per_client = per_client,
        "limits"
    );
    // Of their own, so that it can be seen, and helped, when there is no place for clients.
    let of = |total| Places::new(PlaceLimits { total, per_client: total, health: false }, None);
    let (scrapers, admins) = (of(SCRAPERS), of(ADMINS));
    // Nobody's requests wait for what admin calls take.
    let here = IoThreads::on(Handle::current());
    let services: [(Service, Duration, &Arc<Places>, &IoThreads); 4] = [
        (http, KEEP_ALIVE_GRACE, &places, io),
        (grpc, Duration::ZERO, &places, io),
        (metrics, Duration::ZERO, &scrapers, &here),
        (admin, Duration::ZERO, &admins, &here),
    ];
    let mut listeners = Vec::new();
    for ((protocol, configured), service) in addresses::ports(settings).into_iter().zip(services) {
        let Listen::At(address) = configured else { continue };
        let wrong = |error| addresses::unbound(protocol, address, &error);
        let listener = TcpListener::bind(address).await.map_err(wrong)?;
        let bound = listener.local_addr().map_err(wrong)?;
        addresses::guarded(protocol, address, bound.ip(), settings)?;
        tracing::info!(protocol, address = %bound, "listening");
        listeners.push((protocol, bound, listener, service));
    }
    // Before the first of them answers.
    context.ports.set(listeners.iter().map(|(protocol, bound, ..)| (*protocol, *bound)).collect());
    let open = |(protocol, _, listener, (service, grace, places, io)): (_, _, _, (_, _, &Arc<Places>, &IoThreads))| {
        let terms = Terms::new(service, limits.clone(), context.lifecycle.clone(), transport.clone());
        Door::open(protocol, listener, terms, places.clone(), grace, io.clone())
    };
    Ok(listeners.into_iter().map(open).collect())
}

/// Waits for the loads and the runs that are going on, though nobody waits for their answers any more. Returns how many go on
/// that were abandoned; `None` where others did not end in time.
async fn end_threads(registry: JoinHandle<usize>, compute: Compute, limit: Duration) -> Option<usize> {
    let end = move || {
        // A registry that panicked has ended too.
        let loads = registry.join().unwrap_or(0);
        compute.stop();
        loads + compute.abandoned_runs()
    };
    let Ok(ended) = tokio::time::timeout(limit, tokio::task::spawn_blocking(end)).await else {
        tracing::error!("what is being loaded or run did not end within {limit:?} and is cut off");
        return None;
    };
    let abandoned = ended.unwrap_or(0);
    if abandoned > 0 {
        tracing::warn!(abandoned, "runs and loads that were abandoned are cut off");
    }
    Some(abandoned)
}

/// Closes every port and waits for the requests in flight. False where they did not end in time.
async fn close_doors(doors: Vec<Door>, limit: Duration) -> bool {
    let mut closing = JoinSet::new();
    for door in doors {
        closing.spawn(door.close());
    }
    let closed = async { while closing.join_next().await.is_some() {} };
    let in_time = tokio::time::timeout(limit, closed).await.is_ok();
    if !in_time {
        tracing::error!("requests in flight did not end within {limit:?} and are cut off");
    }
    in_time
}
