//! The world of the model test: the registry's inventory, the repository, the threads that load, and the invariants.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::{prelude::*, test_runner::TestCaseError};

use super::{
    fake::{FakeGeneration, Folder, LoadThread, model},
    reference::Reference,
};
use crate::{
    config::{ModelControl, Versions},
    loader::{LoadRequest, VersionKey},
    registry::{
        generation::Generation,
        inventory::{Inventory, RegistryPhase},
        reconcile::{Action, LoadLimits, next_due, reconcile},
        room::MemoryLimit,
        running_load::RunningLoad,
        status::{EventKind, Standing, VersionState},
    },
    repository::RepositoryModel,
};

pub(super) type CheckResult<T = ()> = Result<T, TestCaseError>;

pub(super) const LOAD_TIMEOUT: Duration = Duration::from_secs(100);
pub(super) const LOADS_AT_START: usize = 2;

pub(super) struct World {
    pub inventory: Inventory<FakeGeneration>,
    pub limits: LoadLimits,
    pub now: Instant,
    pub folders: BTreeMap<String, Folder>,
    pub last_scan: BTreeMap<String, RepositoryModel>,
    pub threads: Vec<LoadThread>,
    /// Generations that were loaded.
    pub loaded: BTreeSet<u64>,
    pub freed: Rc<RefCell<Vec<u64>>>,
    pub holds: Vec<Rc<Cell<bool>>>,
    pub held: BTreeMap<u64, Rc<Cell<bool>>>,
    pub reference: Reference,
    /// The standings in the last table.
    pub table: BTreeMap<VersionKey, Standing>,
    /// The states that a watcher has put together from the events.
    pub watched: BTreeMap<VersionKey, (VersionState, Option<u64>)>,
}

impl World {
    pub(super) fn new(control: ModelControl, memory: Option<MemoryLimit>) -> Self {
        let limits = LoadLimits { loads_at_start: LOADS_AT_START, memory, load_timeout: LOAD_TIMEOUT };
        World {
            inventory: Inventory::new(control, Arc::default()),
            limits,
            now: Instant::now(),
            folders: BTreeMap::new(),
            last_scan: BTreeMap::new(),
            threads: Vec::new(),
            loaded: BTreeSet::new(),
            freed: Rc::default(),
            holds: Vec::new(),
            held: BTreeMap::new(),
            reference: Reference::default(),
            table: BTreeMap::new(),
            watched: BTreeMap::new(),
        }
    }

    pub(super) fn read_repository(&self) -> BTreeMap<String, RepositoryModel> {
        self.folders.iter().map(|(name, folder)| (name.clone(), model(folder, name))).collect()
    }

    pub(super) fn publish(&mut self) -> CheckResult {
        let standings = self.inventory.standings();
        for event in self.inventory.announce(standings.clone(), None) {
            if let EventKind::Version { version, state, generation, .. } = event.what {
                let key = (event.model, version);
                match state {
                    Some(state) => drop(self.watched.insert(key, (state, generation))),
                    None => drop(self.watched.remove(&key)),
                }
            }
        }
        let seen = |(key, standing): (&VersionKey, &Standing)| (key.clone(), (standing.state, standing.generation));
        prop_assert_eq!(&self.watched, &standings.iter().map(seen).collect::<BTreeMap<_, _>>());
        self.table = standings;
        self.inventory.published(self.now);
        Ok(())
    }

    /// A generation that no longer serves drains: it is freed once nothing holds it.
    pub(super) fn check_drains(&self, key: &VersionKey, generation: Option<u64>) -> CheckResult {
        let Some(generation) = generation else { return Ok(()) };
        let tracked = self.inventory.versions.get(key);
        let drains = tracked.is_some_and(|tracked| {
            tracked.leftovers.draining.iter().filter(|draining| draining.number() == generation).count() == 1
        });
        prop_assert!(drains, "generation {} of {:?} is lost", generation, key);
        Ok(())
    }

    /// The invariants that hold whenever there is nothing to do.
    pub(super) fn check(&mut self) -> CheckResult {
        let mut places: Vec<u64> = self.freed.borrow().clone();
        for tracked in self.inventory.versions.values() {
            places.extend(tracked.lifecycle.serving().map(FakeGeneration::number));
            places.extend(tracked.leftovers.draining.iter().map(FakeGeneration::number));
        }
        places.sort_unstable();
        let loaded: Vec<u64> = self.loaded.iter().copied().collect();
        prop_assert_eq!(places, loaded, "every generation serves, drains, or was freed once");
        for number in self.freed.borrow().iter() {
            prop_assert!(!self.held[number].get(), "generation {} is freed while a request holds it", number);
        }
        let mut running: Vec<u64> = self.inventory.running_loads().map(|(_, load)| load.generation).collect();
        running.sort_unstable();
        let mut threads: Vec<u64> =
            self.threads.iter().filter(|thread| !thread.is_given_up).map(|thread| thread.generation).collect();
        threads.sort_unstable();
        prop_assert_eq!(running, threads, "every load is known until it ends or is given up");
        let is_overdue = |load: &RunningLoad| load.is_stuck || self.now >= load.began + LOAD_TIMEOUT;
        let overdue = self.inventory.running_loads().filter(|(_, load)| is_overdue(load)).count();
        prop_assert_eq!(overdue, 0, "a load that is stuck or takes too long is waited for");
        let given_up = self.threads.iter().filter(|thread| thread.is_given_up).count();
        prop_assert_eq!(self.inventory.given_up(), given_up);
        if self.inventory.phase == RegistryPhase::Following {
            prop_assert_eq!(&self.table, &self.inventory.standings(), "the table says what is so");
            self.inventory.touch();
            let left = reconcile(&self.inventory, &self.limits, self.now);
            prop_assert_eq!(left, [Action::Publish], "there was something to do");
            self.publish()?;
            self.inventory.rest();
        }
        let due = next_due(&self.inventory, &self.limits, self.now);
        prop_assert!(due.is_none_or(|due| due > self.now), "something is due and is not done");
        Ok(())
    }

    /// A version is unloaded for a reason that holds.
    pub(super) fn check_retire(&self, key: &VersionKey, why: &str) -> CheckResult {
        let (name, version) = key;
        let wish = self.inventory.wish(name, *version);
        if wish == Some(false) {
            return Ok(());
        }
        let serves = self.inventory.serving(key).is_some();
        let follows = self.inventory.control == ModelControl::Poll;
        let Some(model) = self.inventory.models.get(name) else { return Ok(()) };
        prop_assert!(model.problem.is_none(), "{:?} is unloaded ({}) while its folder can't be read", key, why);
        prop_assert!(!model.incomplete.contains(version));
        let is_named = self.inventory.named(name).contains(version);
        if serves {
            prop_assert!(follows && wish.is_none() && !is_named, "{:?} serves and is unloaded: {}", key, why);
        }
        if model.versions.contains_key(version) {
            let highest = model.versions.keys().next_back().copied();
            prop_assert!(model.config.versions == Versions::Latest(1) && highest != Some(*version));
            let highest = (name.clone(), highest.unwrap_or(0));
            if serves && self.inventory.wish(name, highest.1) != Some(false) {
                prop_assert!(self.inventory.serving(&highest).is_some(), "{:?} goes before its successor serves", key);
            }
        }
        Ok(())
    }

    /// Every wish is met, or there is a reason that the status shows.
    pub(super) fn check_rest(&self) -> CheckResult {
        let follows = self.inventory.control == ModelControl::Poll;
        for (key, standing) in self.inventory.standings() {
            prop_assert!(
                !matches!(standing.state, VersionState::Loading | VersionState::Retiring),
                "{:?} is {:?} for ever: {:?}",
                key,
                standing,
                self.inventory.versions.get(&key)
            );
            if standing.state == VersionState::Failed {
                prop_assert!(standing.reason.is_some(), "{:?} has failed for no reason", key);
            }
        }
        for (name, model) in self.inventory.models.iter().filter(|(_, model)| model.problem.is_none()) {
            for (version, source) in &model.versions {
                let key = (name.clone(), *version);
                let request = LoadRequest { source: source.clone(), config: model.config.for_load() };
                let is_latest = model.versions.keys().next_back() == Some(version);
                let is_chosen = follows && (is_latest || model.config.versions == Versions::All);
                let wish = self.inventory.wish(name, *version);
                let has_to_serve = wish.unwrap_or(is_chosen || follows && self.inventory.named(name).contains(version));
                let standing = self.inventory.standings().remove(&key);
                let state = standing.as_ref().map(|standing| standing.state);
                let has_no_room = standing
                    .as_ref()
                    .and_then(|standing| standing.reason.as_deref())
                    .is_some_and(|reason| reason.contains("it would take"));
                if has_to_serve
                    && !has_no_room
                    && !self.reference.has_given_up(&key, Some(&request).filter(|_| follows))
                {
                    prop_assert_eq!(state, Some(VersionState::Ready), "{:?}: {:?}", &key, standing);
                    let is_current = !follows || self.reference.is_loaded_from(&key, &request);
                    prop_assert!(is_current, "{:?} serves other files than those that are there", key);
                }
                if wish == Some(false) {
                    prop_assert_eq!(state, Some(VersionState::Unloaded), "{:?}", key);
                }
                prop_assert!(has_no_room || !self.reference.awaits_load(&key), "a call for {:?} is forgotten", key);
            }
        }
        prop_assert!(self.threads.is_empty() && !self.inventory.drains());
        Ok(())
    }
}
