//! The registry's thread: it scans the repository, follows the desired state, and has the reconciler's actions executed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, TryLockError,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use super::{
    control::Control,
    executor::{Executor, LoadProgress, OnProgress},
    inventory::{Inventory, RegistryPhase},
    message::Message,
    overridden_config,
    reconcile::LoadLimits,
    room::MemoryLimit,
    settle::{only, settle},
    shared::SharedState,
    unserved::Unserved,
    watcher,
};
use crate::{
    config::ModelControl,
    host::priority,
    loader::{Loader, VersionKey},
    repository::{Repository, RepositoryModel, Scan},
    router::Router,
    state::Store,
};

/// Time between two scans that are to agree, where the poll interval is not shorter.
const SETTLE_INTERVAL: Duration = Duration::from_secs(1);

/// Time between two checks of generations that drain.
const DRAIN_INTERVAL: Duration = Duration::from_millis(50);

/// Time until the state is read again where an admin call holds the store.
const STORE_RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Time that the thread waits at most at the start.
const MAX_START_WAIT: Duration = Duration::from_secs(60);

/// Settings of the registry.
#[derive(Debug, Clone)]
pub struct Options {
    /// The model repository.
    pub repository: Repository,
    /// The rule by which versions are loaded.
    pub control: ModelControl,
    /// The limit of the memory of all versions together, where there is one.
    pub memory: Option<MemoryLimit>,
    /// Time after which a load has failed.
    pub load_timeout: Duration,
}

/// Keeps the loaded versions in line with the repository and with admin calls.
pub struct Registry {
    pub(super) shared: Arc<SharedState>,
    pub(super) executor: Executor,
    pub(super) inbox: mpsc::Receiver<Message>,
    /// The last scan: a model has settled where two scans in a row agree on it.
    last_scan: Scan,
    /// Files of the last scan that are not served, and those that have been logged.
    unserved: Unserved,
    /// The failure of the last scan, which is logged once.
    scan_error: Option<String>,
    /// The error of the last load of the state, which is logged once.
    state_error: Option<String>,
    /// True if another server may have changed the state since it was read last.
    is_state_unread: bool,
    /// Set when the server ends.
    pub(super) stop: Arc<AtomicBool>,
}

impl Registry {
    /// A registry over a repository and a store, with nothing loaded. Once `stop` is set it begins nothing new.
    pub fn new(
        options: Options,
        mut store: Box<dyn Store>,
        loader: Loader,
        router: Arc<Router>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let Options { repository, control, memory, load_timeout } = options;
        let (sender, inbox) = mpsc::channel();
        let inbox_of_store = sender.clone();
        store.watch(Box::new(move || drop(inbox_of_store.send(Message::StateChanged))));
        let desired = store.load().unwrap_or_else(|error| {
            tracing::error!(%error, "state unreadable, configurations of the models decide");
            Arc::default()
        });
        let inventory = Inventory::new(control, desired);
        let mut shared = SharedState::new(repository, (router, loader.exposition()), store, inventory, sender);
        shared.deaths = loader.deaths.clone();
        shared.trials = loader.trials.clone();
        let shared = Arc::new(shared);
        let limits = LoadLimits { loads_at_start: loader.cpus(), memory, load_timeout };
        let executor = Executor::new(shared.clone(), loader, limits);
        let (last_scan, unserved, scan_error, state_error) = Default::default();
        Registry { shared, executor, inbox, last_scan, unserved, scan_error, state_error, is_state_unread: false, stop }
    }

    /// The registry as admin calls see it.
    pub fn control(&self) -> Control {
        Control { router: self.shared.router.clone(), shared: self.shared.clone() }
    }

    /// Loads the versions that are to be loaded now, on as many threads as there are CPUs, since nothing is served yet.
    ///
    /// # Errors
    /// The repository can't be read. A version that can't be loaded is no error: the table and the log report it.
    pub fn load_all(&mut self, on_progress: &dyn Fn(LoadProgress<'_>)) -> Result<(), String> {
        let now = Instant::now();
        self.last_scan = self.scan()?;
        self.unserved.report_at_once(self.shared.repository.unserved(&self.last_scan));
        self.adopt(self.last_scan.models.clone(), |_| true, now);
        on_progress(LoadProgress::Begin(self.executor.start(on_progress)));
        loop {
            self.executor.reconcile(on_progress);
            if !self.executor.is_loading() {
                break;
            }
            // A version that has been loaded does not wait for those that are still being loaded.
            match self.inbox.recv_timeout(self.executor.wait(MAX_START_WAIT, DRAIN_INTERVAL)) {
                Ok(message) => drop(self.receive(message, on_progress)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.stop.load(Relaxed) {
                self.executor.stop_loads();
            }
        }
        self.shared.inventory().phase = RegistryPhase::Following;
        self.executor.publish();
        self.executor.end_trials();
        on_progress(LoadProgress::End);
        Ok(())
    }

    /// Scans the repository every `period` and follows its changes and those of admin calls, until `stop` is set and no load runs any
    /// more. Returns the number of loads that run though they were given up.
    pub fn follow(mut self, period: Duration) -> usize {
        let pause = period.min(SETTLE_INTERVAL);
        priority::prepare();
        // Not before: threads for runs that are started at the start would inherit it.
        priority::use_long_slice();
        // For admin calls during the first loads.
        self.executor.reconcile(&|_| ());
        let _watcher = self.follows().then(|| watcher::watch(&self.shared.repository, self.shared.inbox(), period));
        let (mut last, mut is_unsettled, mut has_loaded) = (Instant::now(), true, false);
        loop {
            let is_stopping = self.stop.load(Relaxed);
            if is_stopping {
                self.executor.stop_loads();
                if !self.executor.is_loading() {
                    return self.shared.inventory().given_up();
                }
            }
            self.executor.free_idle(Instant::now());
            if self.is_state_unread {
                self.follow_state();
            }
            let mut next = last + period;
            if !is_stopping {
                if is_unsettled || self.must_scan() {
                    next = last + pause;
                }
                if next <= Instant::now() {
                    // Not every store reports the changes of others.
                    self.follow_state();
                    is_unsettled = self.scan_for_changes();
                    last = Instant::now();
                    next = last + if is_unsettled || self.must_scan() { pause } else { period };
                }
            }
            self.executor.reconcile(&|_| ());
            if has_loaded {
                self.executor.end_trials();
            }
            let mut most = next.saturating_duration_since(Instant::now());
            if self.is_state_unread {
                most = most.min(STORE_RETRY_INTERVAL);
            }
            has_loaded = match self.inbox.recv_timeout(self.executor.wait(most, DRAIN_INTERVAL)) {
                Ok(message) => {
                    is_unsettled |= matches!(message, Message::FilesChanged);
                    self.receive(message, &|_| ())
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return 0,
            }
        }
    }

    /// Applies a message. True if a load has ended.
    pub(super) fn receive(&mut self, message: Message, on_progress: OnProgress<'_>) -> bool {
        if matches!(message, Message::StateChanged) {
            self.follow_state();
        }
        self.executor.receive(message, on_progress)
    }

    /// Takes over the state where another server has changed it. A state that can't be read is logged once, and reported to callers
    /// who make changes.
    fn follow_state(&mut self) {
        let mut store = match self.shared.store.try_lock() {
            Ok(store) => store,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // An admin call holds it while it writes the state, which may take long.
            Err(TryLockError::WouldBlock) => {
                self.is_state_unread = true;
                return;
            }
        };
        self.is_state_unread = false;
        let error = self.shared.catch_up(&mut **store).err().map(|error| error.to_string());
        if error != self.state_error {
            if let Some(error) = &error {
                tracing::error!(error, "state unreadable, the last known one holds");
            }
            self.state_error = error;
        }
    }

    /// True if an admin call or a retry waits for a scan.
    fn must_scan(&self) -> bool {
        self.shared.inventory().awaits_scan(Instant::now())
    }

    /// Scans the repository, and takes over the models that have settled. True where something has changed since the last scan.
    pub(super) fn scan_for_changes(&mut self) -> bool {
        let now = Instant::now();
        let awaiting = self.shared.inventory().awaiting_scan(now);
        if awaiting.is_empty() && !self.follows() {
            return false;
        }
        let scan = match self.scan() {
            Ok(scan) => scan,
            Err(error) => {
                if self.scan_error.as_ref() != Some(&error) {
                    tracing::error!(error, "model repository unreadable, loaded versions keep serving");
                    self.scan_error = Some(error);
                }
                return false;
            }
        };
        self.scan_error = None;
        self.unserved.report(self.shared.repository.unserved(&scan));
        let before = std::mem::replace(&mut self.last_scan, scan);
        let models = self.settled(&before, |model| awaiting.iter().any(|(name, _)| name == model));
        let agree = |name: &String| before.models.get(name) == self.last_scan.models.get(name);
        self.adopt(models, |key| awaiting.contains(key) && agree(&key.0), now);
        before != self.last_scan
    }

    /// The models on which this scan and the one before agree. `is_awaited`: an admin call or a retry waits for the scan of the model.
    fn settled(&self, before: &Scan, is_awaited: impl Fn(&str) -> bool) -> BTreeMap<String, RepositoryModel> {
        let inventory = self.shared.inventory();
        // An empty folder says that its versions were removed; a missing folder says nothing.
        let stays = |name: &str| {
            let is_asked_for = inventory.is_asked_for(name) || !self.shared.repository.has_folder_of(name);
            is_asked_for && inventory.serves(name)
        };
        let models = settle(&inventory.models, &before.models, &self.last_scan.models, stays);
        if inventory.control == ModelControl::None && inventory.phase != RegistryPhase::Unread {
            return only(&inventory.models, models, is_awaited);
        }
        models
    }

    /// True if the repository is scanned though no admin call and no retry waits for that.
    fn follows(&self) -> bool {
        let inventory = self.shared.inventory();
        inventory.control != ModelControl::None || inventory.phase == RegistryPhase::Unread
    }

    /// Reads the repository. A disk that does not answer, or that has been taken from its mount point, is no wish to unload
    /// everything.
    fn scan(&self) -> Result<Scan, String> {
        let scan = self.shared.repository.scan(&self.last_scan)?;
        if scan.models.is_empty() && scan.device != self.last_scan.device && self.last_scan.device != 0 {
            let folder = self.shared.repository.path().display();
            return Err(format!(
                "the model repository {folder} is empty and lies on another disk than before: was it unmounted?"
            ));
        }
        Ok(scan)
    }

    /// Takes over models of a scan, and logs their problems.
    fn adopt(
        &self,
        models: BTreeMap<String, RepositoryModel>,
        is_settled: impl Fn(&VersionKey) -> bool,
        scanned_at: Instant,
    ) {
        let mut inventory = self.shared.inventory();
        for (name, model) in &models {
            let before = inventory.models.get(name);
            if let Some(problem) = &model.problem
                && before.and_then(|before| before.problem.as_ref()) != Some(problem)
            {
                tracing::error!(model = name, error = problem, "model rejected, its loaded versions keep serving");
            }
            if let Some(warning) = model.warning()
                && before.and_then(RepositoryModel::warning) != Some(warning)
            {
                tracing::warn!(model = name, warning, "model has a warning");
            }
        }
        overridden_config::warn_of_edits(&inventory, &models);
        inventory.scanned(models, is_settled, scanned_at);
    }
}
