//! What is loaded: brings it in line with what the repository holds, and publishes into the router.
//!
//! A reconciler: it compares what should be with what is, and acts on the difference, again and again; nobody tells it what
//! has happened. It works on a thread of its own, off the path of requests, and frees there what has gone.

mod control;
mod control_metrics;
mod inventory;
mod load_queue;
mod losses;
mod memory;
mod overridden_config;
mod plan;
mod readiness;
mod shared;
mod status;
mod table;
#[cfg(test)]
mod tests;
mod unserved;
mod warnings;
mod watcher;

pub use control::{Changed, Control};
pub use memory::MemoryLimit;
pub use status::{Event, Happened, ModelStatus, Source, State, VersionStatus};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
    sync::{
        Arc, TryLockError,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use crate::{
    config::ModelControl,
    host::give_way,
    loader::{Key, Loader, Wanted},
    repository::{Model, Repository, Scan},
    router::{Router, Version},
    state::Store,
};
use inventory::Inventory;
use load_queue::{Going, Refused, say_ready, say_refused};
use plan::{Slot, settle};
use shared::{Message, Shared};
use unserved::Unserved;

/// Two looks that are to agree are as far apart, where the period is not shorter.
const PAUSE: Duration = Duration::from_secs(1);

/// How often it is looked whether what was unloaded can be freed.
const DRAIN: Duration = Duration::from_millis(50);

/// How often what has been loaded is published at the start: each time costs as much as there are models.
const PUBLISH: Duration = Duration::from_millis(100);

/// How long the registry waits at most where nothing is due.
const LOOK_AT_LEAST: Duration = Duration::from_secs(60);

/// Memory of versions that is given back as soon as it is free. To do so holds up every thread that allocates meanwhile.
const TRIM: u64 = 16 << 20;

/// When less is given back.
const TRIM_PAUSE: Duration = Duration::from_secs(10);

/// What is served, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The model repository.
    pub repository: Repository,
    /// Where the desired state is kept.
    pub state_folder: PathBuf,
    /// What decides which versions are loaded.
    pub control: ModelControl,
    /// What versions may take together, where that is limited.
    pub memory: Option<MemoryLimit>,
    /// How long a load may take before it counts as failed.
    pub load_timeout: Duration,
}

/// Keeps what is loaded in line with the repository and with what admin calls ask for.
pub struct Registry {
    shared: Arc<Shared>,
    loader: Loader,
    inbox: mpsc::Receiver<Message>,
    /// What is to be loaded next.
    queue: VecDeque<(Key, Wanted)>,
    /// What is to be loaded anew, its files having been looked at.
    anew: BTreeSet<Key>,
    /// What has been loaded and is not published yet, and what could not be.
    taken: Vec<Arc<Version>>,
    refused: Vec<Refused>,
    /// The last scan: what two scans in a row agree on has settled.
    seen: Scan,
    /// Files of the last scan that are not served, and those that have been logged.
    unserved: Unserved,
    /// Why the last scan failed, so that it is told once.
    scan_error: Option<String>,
    next_generation: u64,
    memory: Option<MemoryLimit>,
    /// Loads that go on.
    going: Vec<Going>,
    /// How long a load may take.
    load_timeout: Duration,
    /// What was freed since memory was given back, and when it is to be.
    freed: u64,
    trim_at: Option<Instant>,
    /// Set when the server ends.
    stop: Arc<AtomicBool>,
}

/// What happens while versions are loaded, for those who watch.
#[derive(Debug)]
pub enum Progress<'a> {
    /// So many versions are going to be loaded.
    Begin(usize),
    /// This one is done, well or not.
    Done {
        /// The model.
        model: &'a str,
        /// The version.
        version: u64,
    },
    /// All are done.
    End,
}

impl Registry {
    /// A registry over a repository, with nothing loaded. Once `stop` is set it begins nothing new.
    ///
    /// # Errors
    /// The desired state was written by a newer server.
    pub fn new(options: Options, loader: Loader, router: Arc<Router>, stop: Arc<AtomicBool>) -> Result<Self, String> {
        let Options { repository, state_folder, control, memory, load_timeout } = options;
        let (store, desired) = Store::open(state_folder)?;
        let (sender, inbox) = mpsc::channel();
        let inventory = Inventory { control, desired, ..Inventory::default() };
        let mut shared = Shared::new(repository, (router, loader.exposition()), store, inventory, sender);
        shared.deaths = loader.deaths.clone();
        shared.trials = loader.trials.clone();
        Ok(Registry {
            shared: Arc::new(shared),
            loader,
            inbox,
            queue: VecDeque::new(),
            anew: BTreeSet::new(),
            taken: Vec::new(),
            refused: Vec::new(),
            seen: Scan::default(),
            unserved: Unserved::default(),
            scan_error: None,
            next_generation: 1,
            memory,
            going: Vec::new(),
            load_timeout,
            freed: 0,
            trim_at: None,
            stop,
        })
    }

    /// The registry as admin calls see it.
    pub fn control(&self) -> Control {
        Control { router: self.shared.router.clone(), shared: self.shared.clone() }
    }

    /// Loads what is to be loaded now, on as many threads as there are CPUs, since nothing is served yet.
    ///
    /// # Errors
    /// The repository can't be read. A version that can't be loaded is no error: the table and the log tell of it.
    pub fn load_all(&mut self, progress: &dyn Fn(Progress<'_>)) -> Result<(), String> {
        self.seen = self.scan()?;
        self.unserved.report_at_once(self.shared.repository.unserved(&self.seen));
        self.adopt(self.seen.models.clone());
        self.reconcile();
        progress(Progress::Begin(self.queue.len()));
        let at_once = self.loader.cpus();
        self.start_loads(at_once);
        let mut published = Instant::now();
        while self.is_loading() {
            let is_news = !(self.taken.is_empty() && self.refused.is_empty());
            let publish_at = is_news.then(|| published + PUBLISH);
            // What has been loaded does not wait for what is still being loaded.
            let next = self.next_of_loads().into_iter().chain(publish_at).min();
            let wait = next.map_or(LOOK_AT_LEAST, |next| next.saturating_duration_since(Instant::now()));
            match self.inbox.recv_timeout(wait) {
                Ok(Message::Loaded(done)) => self.settle_load(*done, progress),
                Ok(Message::Lost(loss)) => self.settle_loss(*loss),
                // What they are about is found out after this.
                Ok(Message::Wake | Message::Files) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.stop.load(Relaxed) {
                self.stop_loads();
            }
            self.give_up_overdue(Instant::now(), progress);
            self.start_loads(at_once);
            if published.elapsed() >= PUBLISH {
                self.publish();
                published = Instant::now();
            }
        }
        self.publish();
        self.loader.end_trials();
        progress(Progress::End);
        Ok(())
    }

    /// Looks at the repository every `period` and follows its changes and the wishes of admin calls, until told to stop and
    /// nothing is being loaded any more. Returns how many loads go on that were given up.
    pub fn follow(mut self, period: Duration) -> usize {
        let pause = period.min(PAUSE);
        crate::host::priority::prepare();
        // Not before: threads for runs that are started at the start would inherit it.
        give_way();
        // For what was asked for while all was loaded.
        self.act();
        let _watcher = self.follows().then(|| watcher::watch(&self.shared.repository, self.shared.inbox()));
        let (mut last, mut is_unsettled) = (Instant::now(), true);
        loop {
            let stopping = self.stop.load(Relaxed);
            if stopping {
                self.stop_loads();
            }
            if stopping && !self.is_loading() {
                return self.shared.inventory().given_up.len();
            }
            if self.give_up_overdue(Instant::now(), &|_| ()) {
                self.reconcile();
            }
            self.free_retired(Instant::now());
            self.promote(Instant::now());
            let mut next = last + period;
            if !stopping {
                if is_unsettled || self.must_look() {
                    next = last + pause;
                }
                if next <= Instant::now() {
                    self.follow_state();
                    is_unsettled = self.look();
                    last = Instant::now();
                    next = last + if is_unsettled || self.must_look() { pause } else { period };
                }
                self.start_loads(1);
            }
            match self.inbox.recv_timeout(self.wait(next)) {
                Ok(Message::Loaded(done)) => {
                    self.settle_load(*done, &|_| ());
                    self.reconcile();
                    if self.queue.is_empty() && !self.is_loading() {
                        self.loader.end_trials();
                    }
                }
                Ok(Message::Lost(loss)) => self.settle_loss(*loss),
                Ok(Message::Files) => is_unsettled = true,
                Ok(Message::Wake) => self.act(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return 0,
            }
        }
    }

    /// Goes by what another server writes into the state folder, and takes its place once it has ended.
    fn follow_state(&self) {
        let mut store = match self.shared.store.try_lock() {
            Ok(store) => store,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Whoever makes a change sees to it.
            Err(TryLockError::WouldBlock) => return,
        };
        if let Some(desired) = store.follow() {
            self.shared.take_over(&store, desired);
        }
    }

    /// How long there is nothing to do but wait.
    fn wait(&self, next_look: Instant) -> Duration {
        let (inventory, now) = (self.shared.inventory(), Instant::now());
        let retries = inventory.slots.values().filter_map(Slot::due_at);
        // Those that are due wait for the look.
        let next = retries
            .chain(self.next_of_loads())
            .chain(self.trim_at)
            .filter(|at| *at > now)
            .fold(next_look, Instant::min);
        let wait = next.saturating_duration_since(now);
        if inventory.retired.is_empty() { wait } else { wait.min(DRAIN) }
    }

    fn is_loading(&self) -> bool {
        !self.going.is_empty()
    }

    /// Whether somebody waits for a look.
    fn must_look(&self) -> bool {
        let inventory = self.shared.inventory();
        let now = Instant::now();
        !inventory.awaited.is_empty()
            || !inventory.anew.is_empty()
            || inventory.slots.values().any(|slot| slot.is_due(now))
    }

    /// Looks at the repository, and acts on what has settled. True where something has changed since the last look.
    fn look(&mut self) -> bool {
        let (asked, due) = {
            let inventory = self.shared.inventory();
            let now = Instant::now();
            let due = inventory.slots.iter().filter(|(_, slot)| slot.is_due(now)).map(|(key, _)| key.clone());
            (inventory.asked(), due.collect::<BTreeSet<Key>>())
        };
        if asked.is_empty() && due.is_empty() && !self.follows() {
            return false;
        }
        let scan = match self.scan() {
            Ok(scan) => scan,
            Err(error) => {
                if self.scan_error.as_ref() != Some(&error) {
                    tracing::error!("{error}; what is loaded goes on serving");
                    self.scan_error = Some(error);
                }
                return false;
            }
        };
        self.scan_error = None;
        self.unserved.report(self.shared.repository.unserved(&scan));
        let before = std::mem::replace(&mut self.seen, scan);
        let agree = |name: &String| before.models.get(name) == self.seen.models.get(name);
        let mut inventory = self.shared.inventory();
        // An empty folder says that its versions were removed; none says nothing.
        let stays = |name: &str| {
            let is_asked_for = inventory.is_asked_for(name) || !self.shared.repository.has_folder_of(name);
            is_asked_for && inventory.serves(name)
        };
        let mut models = settle(&inventory.models, &before.models, &self.seen.models, stays);
        if inventory.control == ModelControl::None && inventory.started {
            // Only what was asked for is looked at.
            models = only(&inventory.models, models, |name| asked.iter().chain(&due).any(|(model, _)| model == name));
        }
        let settled: Vec<Key> = asked.into_iter().filter(|(name, _)| agree(name)).collect();
        for key in &settled {
            inventory.awaited.remove(key);
            if inventory.anew.remove(key) {
                self.anew.insert(key.clone());
            }
        }
        let acts = models != inventory.models || !due.is_empty() || !settled.is_empty();
        let changed = before != self.seen;
        drop(inventory);
        if acts {
            self.adopt(models);
            self.reconcile();
        }
        changed
    }

    /// Whether the repository is looked at though nobody has asked for it.
    fn follows(&self) -> bool {
        let inventory = self.shared.inventory();
        inventory.control != ModelControl::None || !inventory.started
    }

    /// Reads the repository. A disk that does not answer, or that has been taken from its mount point, is no wish to unload
    /// everything.
    fn scan(&self) -> Result<Scan, String> {
        let scan = self.shared.repository.scan(&self.seen)?;
        if scan.models.is_empty() && scan.device != self.seen.device && self.seen.device != 0 {
            let folder = self.shared.repository.path().display();
            return Err(format!(
                "the model repository {folder} is empty and lies on another disk than before: was it unmounted?"
            ));
        }
        Ok(scan)
    }

    /// Takes over what the repository holds, and tells what is wrong with it.
    fn adopt(&self, models: BTreeMap<String, Model>) {
        let mut inventory = self.shared.inventory();
        for (name, model) in &models {
            if let Some(problem) = &model.problem
                && inventory.models.get(name).and_then(|before| before.problem.as_ref()) != Some(problem)
            {
                tracing::error!(model = name, "{problem}; what is loaded of it goes on serving");
            }
            if let Some(warning) = model.warning()
                && inventory.models.get(name).and_then(Model::warning) != Some(warning)
            {
                tracing::warn!(model = name, "{warning}");
            }
        }
        overridden_config::warn_of_edits(&inventory, &models);
        inventory.models = models;
    }

    /// Has what was loaded serve.
    fn publish(&mut self) {
        self.shared.publish(&mut self.shared.inventory(), None);
        // Said once it is true.
        self.taken.drain(..).for_each(|version| say_ready(&version));
        self.refused.drain(..).for_each(|refused| say_refused(&refused));
    }

    /// Frees what no request holds any more.
    fn free_retired(&mut self, now: Instant) {
        for retired in self.shared.take_retired() {
            self.freed += retired.memory;
            self.trim_at.get_or_insert(now + TRIM_PAUSE);
        }
        if self.freed >= TRIM || self.trim_at.is_some_and(|at| at <= now) {
            (self.freed, self.trim_at) = (0, None);
            crate::host::priority::trim_memory();
        }
    }
}

/// Of the models named so those that are now, else those from before.
fn only(
    before: &BTreeMap<String, Model>,
    now: BTreeMap<String, Model>,
    is_named: impl Fn(&str) -> bool,
) -> BTreeMap<String, Model> {
    let kept = before.iter().filter(|(name, _)| !is_named(name)).map(|(name, model)| (name.clone(), model.clone()));
    kept.chain(now.into_iter().filter(|(name, _)| is_named(name))).collect()
}
