//! Everything that the registry decides by: the models of the repository, the desired state, and the lifecycle of each version.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use super::{
    announced::Announced, generation::Generation, leftovers::Leftovers, lifecycle::Lifecycle, running_load::RunningLoad,
};
use crate::{
    config::{ModelConfig, ModelControl},
    loader::VersionKey,
    metrics::LoadCounts,
    repository::RepositoryModel,
    state::{Desired, named},
    traffic::Traffic,
};

/// State of the registry.
#[derive(Debug)]
pub(super) struct Inventory<G> {
    pub control: ModelControl,
    pub phase: RegistryPhase,
    /// True if no load begins any more.
    pub is_stopping: bool,
    /// The models, as the last scans that agreed found them.
    pub models: BTreeMap<String, RepositoryModel>,
    /// Time of the last scan.
    pub scanned_at: Option<Instant>,
    /// Changes that admin calls have made.
    pub desired: Arc<Desired>,
    /// The versions that are loaded, are to be loaded, failed to load, or have leftovers.
    pub versions: BTreeMap<VersionKey, Tracked<G>>,
    /// Counters of loads, as long as the version exists.
    pub load_counts: BTreeMap<VersionKey, LoadCounts>,
    /// Models that count for the readiness of the server.
    pub counted: BTreeSet<String>,
    pub next_generation: u64,
    /// The last events.
    pub announced: Announced,
    /// True if something has changed since the last time that nothing was to be done.
    pub is_unplanned: bool,
    /// True if something has changed since the last table was published.
    pub is_unpublished: bool,
    /// Time when the last table was published.
    pub published_at: Option<Instant>,
}

/// Phase of the registry's thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RegistryPhase {
    /// The repository has not been read yet.
    Unread,
    /// The first loads run, as many at once as there are CPUs. Nothing else is planned until they have ended.
    Starting,
    /// Changes are followed, one load at a time.
    Following,
}

/// A version: its lifecycle, and what is left of earlier loads.
#[derive(Debug)]
pub(super) struct Tracked<G> {
    pub lifecycle: Lifecycle<G>,
    pub leftovers: Leftovers<G>,
}

impl<G> Tracked<G> {
    pub(super) fn new(lifecycle: Lifecycle<G>) -> Self {
        Tracked { lifecycle, leftovers: Leftovers::default() }
    }
}

impl<G: Generation> Tracked<G> {
    /// Loads that run and that have not been given up.
    pub(super) fn running_loads(&self) -> impl Iterator<Item = &RunningLoad> {
        self.lifecycle.load().into_iter().chain(&self.leftovers.unwanted)
    }

    /// True if nothing is left of an unloaded version.
    pub(super) fn is_over(&self) -> bool {
        self.lifecycle.is_retiring() && self.leftovers.is_empty()
    }
}

/// Traffic that a model's configuration asks for.
fn configured(config: &ModelConfig) -> Traffic {
    config.traffic()
}

impl<G> Inventory<G> {
    /// An inventory before the first scan.
    pub(super) fn new(control: ModelControl, desired: Arc<Desired>) -> Self {
        Inventory {
            control,
            phase: RegistryPhase::Unread,
            is_stopping: false,
            models: BTreeMap::new(),
            scanned_at: None,
            desired,
            versions: BTreeMap::new(),
            load_counts: BTreeMap::new(),
            counted: BTreeSet::new(),
            next_generation: 1,
            announced: Announced::default(),
            is_unplanned: true,
            is_unpublished: true,
            published_at: None,
        }
    }

    /// Notes that something has changed.
    pub(super) fn touch(&mut self) {
        (self.is_unplanned, self.is_unpublished) = (true, true);
    }

    /// Notes that nothing is to be done now.
    pub(super) fn rest(&mut self) {
        // While the first loads run, nothing is planned.
        if self.phase == RegistryPhase::Following {
            self.is_unplanned = false;
        }
    }

    /// Notes that a table was published.
    pub(super) fn published(&mut self, now: Instant) {
        (self.is_unpublished, self.published_at) = (false, Some(now));
    }

    /// Takes over changes that admin calls have made.
    pub(super) fn set_desired(&mut self, desired: Arc<Desired>) {
        self.desired = desired;
        self.touch();
    }

    /// The decision of admin calls on whether a version is loaded.
    pub(super) fn wish(&self, model: &str, version: u64) -> Option<bool> {
        self.desired.models.get(model)?.loaded.get(&version).copied()
    }

    /// Traffic of a model.
    pub(super) fn traffic(&self, model: &str) -> Traffic {
        let asked = self.desired.models.get(model).and_then(|state| state.traffic.clone());
        asked.unwrap_or_else(|| self.configured(model))
    }

    /// Traffic that the configuration of a model asks for.
    pub(super) fn configured(&self, model: &str) -> Traffic {
        self.models.get(model).map(|model| configured(&model.config)).unwrap_or_default()
    }

    /// Versions that the traffic of a model names.
    pub(super) fn named(&self, model: &str) -> BTreeSet<u64> {
        named(&self.traffic(model))
    }

    /// Versions that the traffic would name after a rollback, or after an abort.
    pub(super) fn named_before(&self, model: &str) -> BTreeSet<u64> {
        let Some(state) = self.desired.models.get(model) else { return BTreeSet::new() };
        let configured = self.configured(model);
        state.next_snapshots().flat_map(|snapshot| snapshot.needs(&configured)).collect()
    }

    /// True if settings or calls ask for any version of a model.
    pub(super) fn is_asked_for(&self, model: &str) -> bool {
        let loaded = self.desired.models.get(model).is_some_and(|state| state.loaded.values().any(|loaded| *loaded));
        loaded || !self.named(model).is_empty()
    }
}

impl<G: Generation> Inventory<G> {
    /// The tracked versions of a model.
    pub(super) fn versions_of(&self, name: &str) -> impl Iterator<Item = (&VersionKey, &Tracked<G>)> {
        self.versions.range((name.to_owned(), 0)..=(name.to_owned(), u64::MAX))
    }

    /// The lifecycle of a version, unless it is unloaded.
    pub(super) fn lifecycle(&self, key: &VersionKey) -> Option<&Lifecycle<G>> {
        self.versions.get(key).map(|tracked| &tracked.lifecycle).filter(|lifecycle| !lifecycle.is_retiring())
    }

    /// The generation of a version that serves.
    pub(super) fn serving(&self, key: &VersionKey) -> Option<&G> {
        self.lifecycle(key)?.serving()
    }

    /// All generations that serve.
    pub(super) fn all_serving(&self) -> impl Iterator<Item = &G> {
        self.versions.values().filter_map(|tracked| tracked.lifecycle.serving())
    }

    /// The names of all models that exist.
    pub(super) fn names(&self) -> BTreeSet<&String> {
        let tracked = self.versions.iter().filter(|(_, tracked)| !tracked.lifecycle.is_retiring());
        self.models.keys().chain(tracked.map(|((name, _), _)| name)).collect()
    }

    /// True if a model is one of them.
    pub(super) fn has(&self, name: &str) -> bool {
        self.models.contains_key(name) || self.versions_of(name).any(|(_, tracked)| !tracked.lifecycle.is_retiring())
    }

    /// True if a version of a model serves.
    pub(super) fn serves(&self, name: &str) -> bool {
        self.versions_of(name).any(|(_, tracked)| tracked.lifecycle.serving().is_some())
    }

    /// True if a version, or any version, of a model is being loaded, or is to be reloaded.
    pub(super) fn is_changing(&self, model: &str, version: Option<u64>) -> bool {
        let meant = self.versions_of(model).filter(|(key, _)| version.is_none_or(|version| version == key.1));
        meant
            .map(|(_, tracked)| tracked)
            .any(|tracked| tracked.lifecycle.is_changing() || !tracked.leftovers.unwanted.is_empty())
    }

    /// Loads that run and that have not been given up.
    pub(super) fn running_loads(&self) -> impl Iterator<Item = (&VersionKey, &RunningLoad)> {
        self.versions.iter().flat_map(|(key, tracked)| tracked.running_loads().map(move |load| (key, load)))
    }

    /// Number of loads that were given up and whose threads have not ended.
    pub(super) fn given_up(&self) -> usize {
        self.versions.values().map(|tracked| tracked.leftovers.given_up.len()).sum()
    }

    /// True if generations drain.
    pub(super) fn drains(&self) -> bool {
        self.versions.values().any(|tracked| !tracked.leftovers.draining.is_empty())
    }

    /// True if an admin call or a retry waits for a scan.
    pub(super) fn awaits_scan(&self, now: Instant) -> bool {
        self.versions.values().any(|tracked| tracked.lifecycle.is_scan_due(now))
    }

    /// Versions for which an admin call or a retry waits for a scan.
    pub(super) fn awaiting_scan(&self, now: Instant) -> BTreeSet<VersionKey> {
        let awaiting = self.versions.iter().filter(|(_, tracked)| tracked.lifecycle.is_scan_due(now));
        awaiting.map(|(key, _)| key.clone()).collect()
    }
}
