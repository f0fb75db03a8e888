//! The registry with real models, as admin calls see it.

mod shared_store;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tempfile::TempDir;

use super::{ChangeResult, Control, Options, Registry, VersionState, reconcile::Action, reconcile::reconcile};
use crate::{
    batcher::Compute,
    config::{ModelControl, OtherProvider},
    engine::{Engine, Provider, gpus},
    error::{Code, Lost, Result},
    loader::Loader,
    metrics::{Exposition, ServerMetrics},
    repository::Repository,
    router::Router,
    state::{Change, ChangeContext, FolderStore, Store, memory_store::MemoryStore},
    traffic::{Selector, Weights},
};

const TEST_TIMEOUT: Duration = Duration::from_secs(60);

struct LoaderFixture {
    loader: Loader,
    metrics: ServerMetrics,
}

/// The parts of which a process can have one.
fn bench() -> &'static LoaderFixture {
    static BENCH: OnceLock<LoaderFixture> = OnceLock::new();
    BENCH.get_or_init(|| {
        let engine = Engine::for_tests();
        let exposition = Exposition::new(&[]);
        let metrics = exposition.server().clone();
        LoaderFixture { loader: Loader::new(engine, Compute::start(2).unwrap(), Arc::new(exposition), 2), metrics }
    })
}

/// A registry that runs.
struct RunningRegistry {
    control: Control,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<usize>>,
}

/// A registry that has loaded what there is.
fn registry(repository: &Path, store: impl Store + 'static, control: ModelControl) -> Registry {
    let options = Options {
        repository: Repository::open(repository, None, &[]).unwrap(),
        control,
        memory: None,
        load_timeout: TEST_TIMEOUT,
    };
    let (router, stop) = (Arc::new(Router::new(bench().metrics.clone())), Arc::new(AtomicBool::new(false)));
    let mut registry = Registry::new(options, Box::new(store), bench().loader.clone(), router, stop);
    registry.load_all(&|_| ()).unwrap();
    registry
}

impl RunningRegistry {
    fn start(repository: &Path, state: &Path, control: ModelControl) -> Self {
        RunningRegistry::start_with(repository, FolderStore::open(state.into()).unwrap(), control)
    }

    fn start_with(repository: &Path, store: impl Store + 'static, control: ModelControl) -> Self {
        let registry = registry(repository, store, control);
        let (control, stop) = (registry.control(), registry.stop.clone());
        let thread = thread::spawn(move || registry.follow(Duration::from_millis(20)));
        RunningRegistry { control, stop, thread: Some(thread) }
    }

    fn change(&self, change: Change) -> Result<ChangeResult> {
        self.control.change(
            "m",
            |_| Ok(change.clone()),
            ChangeContext { actor: "ann".into(), reason: "because".into(), ..ChangeContext::default() },
        )
    }

    fn wait(&self, version: Option<u64>) -> Result<super::ModelStatus> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(self.control.wait_ready("m", version, TEST_TIMEOUT))
    }

    fn state(&self, version: u64) -> Option<VersionState> {
        let status = self.control.model("m").ok()?;
        status.versions.iter().find(|status| status.version == version).map(|status| status.state)
    }

    /// The version that a request without one goes to now.
    fn picked(&self) -> Result<u64> {
        self.control.router.table().shown("m", &Selector::Any).map(|version| version.version)
    }

    fn eventually(&self, what: &str, holds: impl Fn() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < TEST_TIMEOUT, "{what}: {:?}", self.control.models());
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for RunningRegistry {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.control.wake();
        let _ = self.thread.take().unwrap().join();
    }
}

/// A version of the model, which answers whatever its number is.
fn add_version(repository: &Path, version: u64) {
    let folder = repository.join(format!("m/.{version}"));
    fs::create_dir_all(&folder).unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/simple/1/model.onnx");
    fs::copy(model, folder.join("model.onnx")).unwrap();
    fs::rename(&folder, repository.join(format!("m/{version}"))).unwrap();
}

fn weights(pairs: &[(u64, f64)]) -> Change {
    Change::SetWeights(Weights::new(pairs.iter().copied().collect()).unwrap())
}

#[test]
fn changes_hold_when_they_return_and_after_a_restart() {
    let (repository, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    (1..=3).for_each(|version| add_version(repository.path(), version));
    let state = state.path().join("state");
    let running = RunningRegistry::start(repository.path(), &state, ModelControl::Poll);
    assert_eq!(running.picked(), Ok(3));
    assert!(!state.exists(), "it is made by the first change");
    assert_eq!(running.change(Change::Promote(9)).unwrap_err().code(), Code::NotFound);
    assert!(!state.exists(), "a change that is refused changes nothing");

    let changed = running.change(Change::Promote(1)).unwrap();
    assert_eq!((changed.revision, changed.model.traffic.stable(), running.picked()), (1, Some(1), Ok(1)));
    running.change(weights(&[(1, 95.0), (2, 5.0)])).unwrap();
    running.change(Change::Promote(2)).unwrap();
    assert_eq!(running.picked(), Ok(2));
    // A new version takes nothing.
    add_version(repository.path(), 4);
    running.eventually("version 4 is ready", || running.state(4) == Some(VersionState::Ready));
    assert_eq!(running.picked(), Ok(2));
    drop(running);

    let running = RunningRegistry::start(repository.path(), &state, ModelControl::Poll);
    assert_eq!((running.control.revision(), running.picked()), (3, Ok(2)));
    let changed = running.change(Change::Rollback).unwrap();
    assert_eq!((changed.model.traffic.weights.of(2), running.picked()), (5.0, Ok(1)));
    let stale = ChangeContext { expected_revision: Some(2), ..ChangeContext::default() };
    let refused = running.control.change("m", |_| Ok(Change::Promote(3)), stale).unwrap_err();
    assert_eq!(refused.code(), Code::Aborted);
    let expected =
        "since revision 2: revision 3: promote version 2 by ann (because); revision 4: rollback by ann (because)";
    assert!(refused.message().ends_with(expected), "{refused}");
    running.change(Change::Rollback).unwrap();
    running.change(Change::Rollback).unwrap();
    assert_eq!(running.picked(), Ok(3), "what answered then, not what has come since");
    assert_eq!(running.change(Change::Rollback).unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(running.control.history("m").unwrap().len(), 6);
    let audit = fs::read_to_string(state.join("audit.jsonl")).unwrap();
    assert_eq!(audit.lines().count(), 6);
}

/// The setting `versions` takes no version away that a rollback would bring back, and one further back is loaded for it.
#[test]
fn versions_that_a_rollback_names_stay_loaded() {
    let (repository, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    add_version(repository.path(), 1);
    fs::write(repository.path().join("m/config.toml"), "versions = { latest = 1 }").unwrap();
    let running = RunningRegistry::start(repository.path(), state.path(), ModelControl::Poll);
    running.change(Change::Promote(1)).unwrap();
    add_version(repository.path(), 2);
    running.eventually("version 2 is ready", || running.state(2) == Some(VersionState::Ready));
    running.change(Change::Promote(2)).unwrap();
    assert_eq!(running.state(1), Some(VersionState::Ready), "it may have to come back");
    running.change(Change::Rollback).unwrap();
    assert_eq!(running.picked(), Ok(1));

    running.change(Change::Promote(2)).unwrap();
    running.change(Change::SetAlias { alias: "canary".into(), version: 2 }).unwrap();
    running.eventually("version 1 is left out", || running.state(1) == Some(VersionState::Unloaded));
    running.change(Change::Rollback).unwrap();
    running.wait(Some(1)).unwrap();
}

/// A version that breaks while it serves is out of service at once; the others take its requests.
#[test]
fn lost_version_is_quarantined_until_a_call_loads_it() {
    let (repository, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    (1..=2).for_each(|version| add_version(repository.path(), version));
    let running = RunningRegistry::start(repository.path(), state.path(), ModelControl::Poll);
    let lose = |lost: Lost| {
        let table = running.control.router.table();
        table.shown("m", &Selector::Version(2)).unwrap().batcher.lose(lost);
    };
    lose(Lost::for_good("it broke"));
    running.eventually("version 2 failed", || running.state(2) == Some(VersionState::Failed));
    assert_eq!(running.picked(), Ok(1));
    let refused = running.wait(Some(2)).unwrap_err().to_string();
    assert!(refused.contains("it broke; it is quarantined"), "{refused}");
    running.change(Change::Load(Some(2))).unwrap();
    running.wait(Some(2)).unwrap();
    assert_eq!(running.picked(), Ok(2));

    lose(Lost::for_now("it broke again"));
    running.eventually("version 2 failed", || running.picked() == Ok(1));
    running.eventually("version 2 is loaded again", || running.picked() == Ok(2));
}

#[test]
fn reload_during_a_reload_is_waited_for() {
    let (repository, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    add_version(repository.path(), 1);
    let running = RunningRegistry::start(repository.path(), state.path(), ModelControl::Explicit);
    running.change(Change::Load(None)).unwrap();
    running.wait(None).unwrap();
    let folder = repository.path().join("m/1");
    let endless = fs::File::create(folder.join("endless")).unwrap();
    endless.set_len(1 << 42).unwrap();
    let zeros = "0".repeat(64);
    fs::write(folder.join("SHA256SUMS"), format!("{zeros}  endless\n{zeros}  model.onnx\n")).unwrap();
    running.change(Change::Reload(Some(1))).unwrap();
    let inventory = || running.control.shared.inventory();
    running.eventually("it is being loaded", || inventory().running_loads().count() == 1);
    running.change(Change::Reload(Some(1))).unwrap();
    running.eventually("its files have been looked at", || {
        inventory().versions.values().all(|tracked| !tracked.lifecycle.awaits_scan())
    });
    endless.set_len(0).unwrap();
    running.wait(Some(1)).unwrap();
    let loads = inventory().load_counts[&("m".to_owned(), 1)];
    // A file that was cut while it was read is tried again after a second.
    assert!(loads.succeeded + loads.failed >= 3, "{loads:?}");
}

#[test]
fn revisions_end_at_the_last_one() {
    let (repository, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    add_version(repository.path(), 1);
    fs::write(state.path().join("audit.jsonl"), format!("{{\"revision\":{}}}\n", u64::MAX)).unwrap();
    let running = RunningRegistry::start(repository.path(), state.path(), ModelControl::Poll);
    let refused = running.change(Change::Promote(1)).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains(&u64::MAX.to_string()), "{refused}");
    assert_eq!(running.picked(), Ok(1));
}

/// A version of which the load takes as long as it is let: until the file that is given is made empty.
fn add_endless(repository: &Path, version: u64) -> PathBuf {
    let aside = repository.join(format!("m/.{version}"));
    fs::create_dir_all(&aside).unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/simple/1/model.onnx");
    fs::copy(model, aside.join("model.onnx")).unwrap();
    let zeros = "0".repeat(64);
    fs::File::create(aside.join("endless")).unwrap().set_len(1 << 42).unwrap();
    fs::write(aside.join("SHA256SUMS"), format!("{zeros}  endless\n{zeros}  model.onnx\n")).unwrap();
    let folder = repository.join(format!("m/{version}"));
    fs::rename(&aside, &folder).unwrap();
    folder.join("endless")
}

/// A load steps aside for a minute, and not for ever.
#[test]
fn long_load_returns_to_normal_priority() {
    let repository = TempDir::new().unwrap();
    add_version(repository.path(), 1);
    let mut registry = registry(repository.path(), MemoryStore::default(), ModelControl::Poll);
    let endless = add_endless(repository.path(), 2);
    let promotes = |registry: &Registry, at: Instant| {
        reconcile(&registry.shared.inventory(), &registry.executor.limits, at).contains(&Action::Promote)
    };
    // Two looks that agree.
    registry.scan_for_changes();
    registry.scan_for_changes();
    assert!(!promotes(&registry, Instant::now() + TEST_TIMEOUT), "nothing is being loaded");
    let before = Instant::now();
    registry.executor.reconcile(&|_| ());
    assert!(registry.executor.is_loading());
    let minute = Duration::from_secs(60);
    assert!(!promotes(&registry, before + minute - Duration::from_nanos(1)));
    assert!(registry.executor.wait(2 * minute, 2 * minute) <= minute, "it wakes for that");
    let later = Instant::now() + minute;
    assert!(promotes(&registry, later));
    registry.executor.execute(Action::Promote, later, &|_| ());
    assert!(!promotes(&registry, before + 2 * minute), "once");
    fs::File::options().write(true).open(&endless).unwrap().set_len(0).unwrap();
    while registry.executor.is_loading() {
        let message = registry.inbox.recv_timeout(TEST_TIMEOUT).unwrap();
        registry.executor.receive(message, &|_| ());
    }
    assert!(!promotes(&registry, before + 2 * minute), "it has ended");
}

#[test]
fn change_does_not_wait_for_a_load() {
    let (repository, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    (1..=2).for_each(|version| add_version(repository.path(), version));
    let running = RunningRegistry::start(repository.path(), state.path(), ModelControl::Poll);
    let endless = add_endless(repository.path(), 3);
    running.eventually("version 3 is being loaded", || running.state(3) == Some(VersionState::Loading));

    running.change(Change::Promote(1)).unwrap();
    assert_eq!(running.picked(), Ok(1));
    running.change(Change::Unload(Some(2))).unwrap();
    running.eventually("version 2 is freed", || running.state(2) == Some(VersionState::Unloaded));
    let refused = running.change(Change::Promote(3)).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(
        refused.message().contains("version 3 is not ready, it can't be promoted: it is being loaded"),
        "{refused}"
    );
    running.change(Change::Rollback).unwrap();
    running.eventually("what answered is loaded again", || running.picked() == Ok(2));
    assert_eq!(running.state(3), Some(VersionState::Loading));
    // A version that is unloaded while it is loaded does not come.
    running.change(Change::Unload(Some(3))).unwrap();
    fs::File::options().write(true).open(&endless).unwrap().set_len(0).unwrap();
    assert_eq!(running.state(3), Some(VersionState::Unloaded));
}

#[test]
fn explicit_control_loads_only_requested_versions() {
    let (repository, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    (1..=2).for_each(|version| add_version(repository.path(), version));
    let running = RunningRegistry::start(repository.path(), state.path(), ModelControl::Explicit);
    assert_eq!(running.state(2), Some(VersionState::Unloaded));
    assert_eq!(running.picked().unwrap_err().code(), Code::Unavailable);
    assert_eq!(running.wait(Some(2)).unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(running.wait(None).unwrap_err().code(), Code::FailedPrecondition);
    let load = running.change(Change::Load(Some(2))).unwrap();
    assert_eq!(load.model.versions[1].state, VersionState::Loading);
    running.wait(Some(2)).unwrap();
    // One that has come just now.
    add_version(repository.path(), 3);
    running.change(Change::Load(Some(3))).unwrap();
    running.wait(None).unwrap();
    assert_eq!(running.picked(), Ok(3));
    let before = running.control.model("m").unwrap().versions[2].generation;
    running.change(Change::Reload(Some(3))).unwrap();
    running.eventually("it is loaded anew", || running.control.model("m").unwrap().versions[2].generation > before);
    assert_eq!(running.change(Change::Reload(Some(1))).unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(running.change(Change::Load(Some(9))).unwrap_err().code(), Code::NotFound);
    running.change(Change::Unload(Some(2))).unwrap();
    drop(running);

    let running = RunningRegistry::start(repository.path(), state.path(), ModelControl::Explicit);
    assert_eq!(
        [1, 2, 3].map(|version| running.state(version).unwrap()),
        [VersionState::Unloaded, VersionState::Unloaded, VersionState::Ready]
    );
    // A version without files goes on serving until a call unloads it.
    fs::remove_dir_all(repository.path().join("m")).unwrap();
    running.eventually("it is told", || running.control.model("m").is_ok_and(|status| status.problem.is_some()));
    assert_eq!(running.picked(), Ok(3));
    assert_eq!(running.change(Change::Unload(None)).unwrap_err().code(), Code::FailedPrecondition);
    running.change(Change::ForceUnload(None)).unwrap();
    running.eventually("it is gone", || running.control.model("m").is_err());
}

#[test]
fn provider_is_tried_by_running_it() {
    let engine = &bench().loader.engine;
    assert!(engine.try_provider(Provider::Cpu).is_ok());
    let providers = engine.providers();
    assert!(providers.contains(&Provider::Cpu.name().into()), "{providers:?}");
    for other in [OtherProvider::OpenVino, OtherProvider::MiGraphX, OtherProvider::CoreMl, OtherProvider::Xnnpack] {
        let provider = Provider::Other(other);
        let tried = engine.try_provider(provider);
        assert_eq!(tried.is_ok(), providers.contains(&provider.name().to_owned()), "{provider}: {tried:?}");
    }
    for provider in [Provider::Cuda { gpu: 0 }, Provider::TensorRt { gpu: 0 }] {
        let tried = engine.try_provider(provider);
        assert!(gpus().is_ok() || tried.is_err(), "{provider}");
    }
}
