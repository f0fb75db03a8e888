//! Events of the registry, as transitions of its inventory. Pure: time is an argument.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use super::{
    generation::Generation,
    inventory::{Inventory, RegistryPhase, Tracked},
    lifecycle::{Lifecycle, LoadOutcome},
    previous::{FailedLoad, LoadFailure},
    running_load::{RunningLoad, StartedLoad},
};
use crate::{
    batcher::LoadWatch,
    error::{Failure, Lost},
    loader::{LoadRequest, VersionKey},
    repository::RepositoryModel,
    state::Change,
};

/// A load that has ended.
#[derive(Debug)]
pub(super) enum EndedLoad<G> {
    /// The lifecycle of its version has taken the result.
    Settled(LoadOutcome),
    /// The version was unloaded meanwhile, or the load was given up: its result is to be freed.
    Dropped {
        result: Result<G, Failure>,
        /// Host memory that the load held, in bytes.
        memory: u64,
        /// True if the load was given up: it has been reported as failed.
        is_given_up: bool,
    },
    /// No load of that number runs.
    Unknown,
}

impl<G: Generation> Inventory<G> {
    /// Event: the first plan is made.
    pub(super) fn started(&mut self) {
        self.counted = self.names().into_iter().cloned().collect();
        self.phase = RegistryPhase::Starting;
        self.touch();
    }

    /// Event: a scan that began at `scanned_at` has found these models. `is_settled`: an admin call asked for the version before that,
    /// and the scan before agrees on its model.
    pub(super) fn scanned(
        &mut self,
        models: BTreeMap<String, RepositoryModel>,
        is_settled: impl Fn(&VersionKey) -> bool,
        scanned_at: Instant,
    ) {
        let is_due = |tracked: &Tracked<G>| tracked.lifecycle.due_at().is_some_and(|at| at <= scanned_at);
        let mut is_news = models != self.models || self.versions.values().any(is_due);
        self.scanned_at = Some(scanned_at);
        self.models = models;
        for (key, tracked) in &mut self.versions {
            if tracked.lifecycle.awaits_scan() && is_settled(key) {
                tracked.lifecycle.scanned();
                is_news = true;
            }
        }
        if is_news {
            self.touch();
        }
    }

    /// Event: an admin call has made a change. `on_disk`: the versions that the model's folder holds.
    pub(super) fn called(&mut self, model: &str, change: &Change, on_disk: &BTreeSet<u64>) {
        let (version, is_reload) = match change {
            Change::Load(version) => (version, false),
            Change::Reload(version) => (version, true),
            _ => return,
        };
        for number in version.map_or_else(|| on_disk.clone(), |version| BTreeSet::from([version])) {
            let key = (model.to_owned(), number);
            match self.versions.get_mut(&key) {
                Some(tracked) => tracked.lifecycle.call(is_reload),
                None if is_reload => {}
                None => drop(self.versions.insert(key, Tracked::new(Lifecycle::called()))),
            }
        }
        self.touch();
    }

    /// Event: a load is due, and waits for its turn.
    pub(super) fn queue(&mut self, key: &VersionKey, request: LoadRequest) {
        let tracked = self.versions.entry(key.clone()).or_insert_with(|| Tracked::new(Lifecycle::Retiring));
        tracked.lifecycle.queue(request);
        self.touch();
    }

    /// Event: a load is due, and waits for the weights that its model file names.
    pub(super) fn hold(&mut self, key: &VersionKey, request: LoadRequest, until: Instant) {
        self.with(key, |tracked| tracked.lifecycle.hold(request, until));
    }

    /// Event: a load that waited is not due any more.
    pub(super) fn release(&mut self, key: &VersionKey) {
        self.with(key, |tracked| tracked.lifecycle.release());
    }

    /// Event: the load that waited for its turn begins.
    pub(super) fn begin_load(
        &mut self,
        key: &VersionKey,
        promote_at: Option<Instant>,
        watch: impl FnOnce(u64) -> Arc<LoadWatch>,
        now: Instant,
    ) -> Option<StartedLoad> {
        let request = self.lifecycle(key)?.next()?.clone();
        let generation = self.next_generation;
        self.next_generation += 1;
        let watch = watch(generation);
        let started = StartedLoad { generation, request: request.clone(), watch: watch.clone() };
        let load = RunningLoad { generation, request, began: now, promote_at, is_stuck: false, watch };
        self.with(key, |tracked| tracked.lifecycle.begin(load));
        Some(started)
    }

    /// Event: a load has ended.
    pub(super) fn load_ended(
        &mut self,
        key: &VersionKey,
        generation: u64,
        result: Result<G, Failure>,
        now: Instant,
    ) -> EndedLoad<G> {
        let is_wanted = self.lifecycle(key).and_then(Lifecycle::load).is_some_and(|load| load.generation == generation);
        if is_wanted {
            return self.settle(key, result, now).map_or(EndedLoad::Unknown, EndedLoad::Settled);
        }
        match self.with(key, |tracked| tracked.leftovers.load_ended(generation)).flatten() {
            Some((memory, is_given_up)) => EndedLoad::Dropped { result, memory, is_given_up },
            None => EndedLoad::Unknown,
        }
    }

    /// Event: a load that waited for its turn fails before it begins.
    pub(super) fn refused(&mut self, key: &VersionKey, failure: Failure, now: Instant) -> Option<FailedLoad> {
        self.lifecycle(key)?.next()?;
        match self.settle(key, Err(failure), now)? {
            LoadOutcome::Failed(failed) => Some(failed),
            LoadOutcome::Ready => None,
        }
    }

    fn settle(&mut self, key: &VersionKey, result: Result<G, Failure>, now: Instant) -> Option<LoadOutcome> {
        let seconds = result.as_ref().ok().map(Generation::load_seconds);
        let tracked = self.versions.get_mut(key)?;
        let serves = tracked.lifecycle.serving().is_some();
        let outcome = tracked.lifecycle.load_ended(result, now, &mut tracked.leftovers)?;
        let counts = self.load_counts.entry(key.clone()).or_default();
        match &outcome {
            LoadOutcome::Ready => {
                counts.succeeded += 1;
                counts.swaps += u64::from(serves);
                counts.seconds = seconds;
            }
            LoadOutcome::Failed(_) => counts.failed += 1,
        }
        self.touch();
        Some(outcome)
    }

    /// Event: a run of a load was stopped and does not end.
    pub(super) fn load_stuck(&mut self, key: &VersionKey, generation: u64) {
        let Some(tracked) = self.versions.get_mut(key) else { return };
        let loads = tracked.lifecycle.load_mut().into_iter().chain(&mut tracked.leftovers.unwanted);
        loads.filter(|load| load.generation == generation).for_each(|load| load.is_stuck = true);
    }

    /// Event: a load is not waited for any more. Its thread goes on, and its result will be dropped. `None` where the version was
    /// unloaded meanwhile.
    pub(super) fn load_given_up(
        &mut self,
        key: &VersionKey,
        generation: u64,
        failure: Failure,
        now: Instant,
    ) -> Option<FailedLoad> {
        let tracked = self.versions.get_mut(key)?;
        let load = tracked.running_loads().find(|load| load.generation == generation)?;
        load.watch.give_up();
        let left = (load.generation, load.request.memory());
        let is_wanted = tracked.lifecycle.load().is_some_and(|load| load.generation == generation);
        tracked.leftovers.give_up(left);
        self.touch();
        if !is_wanted {
            return None;
        }
        match self.settle(key, Err(failure), now)? {
            LoadOutcome::Failed(failed) => Some(failed),
            LoadOutcome::Ready => None,
        }
    }

    /// Event: loads that have taken long yield to what serves no longer.
    pub(super) fn loads_promoted(&mut self, now: Instant) {
        for tracked in self.versions.values_mut() {
            let loads = tracked.lifecycle.load_mut().into_iter().chain(&mut tracked.leftovers.unwanted);
            loads.for_each(|load| load.promote_at = load.promote_at.filter(|at| *at > now));
        }
    }

    /// Event: the generation that serves has to go before the next one can be loaded.
    pub(super) fn make_room(&mut self, key: &VersionKey) {
        self.with(key, |tracked| tracked.lifecycle.make_room(&mut tracked.leftovers));
    }

    /// Event: a generation can serve no more. The failure is returned where that takes its version out of service.
    pub(super) fn lost(&mut self, key: &VersionKey, generation: u64, lost: Lost, now: Instant) -> Option<LoadFailure> {
        let tracked = self.versions.get_mut(key)?;
        let failure = tracked.lifecycle.lost(generation, lost, now, &mut tracked.leftovers)?;
        self.touch();
        Some(failure)
    }

    /// Event: a version is to be loaded no more. True if it served.
    pub(super) fn unload(&mut self, key: &VersionKey) -> bool {
        self.with(key, |tracked| tracked.lifecycle.unload(&mut tracked.leftovers)).unwrap_or(false)
    }

    /// Takes out the generations that nothing holds any more.
    pub(super) fn take_idle(&mut self) -> Vec<G> {
        let mut idle = Vec::new();
        let drained = |tracked: &mut Tracked<G>| idle.extend(tracked.leftovers.take_idle());
        self.versions.values_mut().for_each(drained);
        if !idle.is_empty() {
            self.versions.retain(|_, tracked| !tracked.is_over());
            self.touch();
        }
        idle
    }

    /// Changes a version, and forgets it where nothing of it is left.
    fn with<T>(&mut self, key: &VersionKey, change: impl FnOnce(&mut Tracked<G>) -> T) -> Option<T> {
        let tracked = self.versions.get_mut(key)?;
        let result = change(tracked);
        if tracked.is_over() {
            self.versions.remove(key);
        }
        self.touch();
        Some(result)
    }
}
