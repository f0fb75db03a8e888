//! What the registry knows: what the repository holds, what is loaded, and what admin calls have asked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use super::{
    plan::{Slot, wanted},
    status::{ModelStatus, Source, State, VersionStatus},
};
use crate::{
    clock,
    config::{ModelConfig, ModelControl},
    loader::Key,
    metrics::LoadCounts,
    repository::Model,
    router::Version,
    state::{Change, Desired, Known, named, shares},
    traffic::Traffic,
};

/// What is there, and what should be.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    pub control: ModelControl,
    /// Whether what is to be loaded at the start has been settled.
    pub started: bool,
    /// Models that count for the readiness of the server.
    pub counted: BTreeSet<String>,
    /// The models as they were last acted on.
    pub models: BTreeMap<String, Model>,
    pub slots: BTreeMap<Key, Slot>,
    /// Versions of which a load is going on, with the bytes that they will take.
    pub loading: BTreeMap<Key, u64>,
    /// Bytes of loads that were given up and go on, by their generation.
    pub given_up: BTreeMap<u64, u64>,
    /// Versions that admin calls want loaded, and that the last look did not see yet.
    pub awaited: BTreeSet<Key>,
    /// Versions that admin calls want loaded anew.
    pub anew: BTreeSet<Key>,
    /// The same, until that is done or has failed.
    pub reloading: BTreeSet<Key>,
    /// What admin calls have asked for.
    pub desired: Desired,
    /// Replaced or removed versions that requests may still hold; freed by the registry, not where the last request ends.
    pub retired: Vec<Retired>,
    /// What has been told of versions, and since when that holds.
    pub told: BTreeMap<Key, Told>,
    /// Generations that have been told to drain beside another of their version.
    pub told_draining: BTreeSet<(Key, u64)>,
    /// What has been told of where requests go.
    pub told_traffic: BTreeMap<String, Traffic>,
    /// What is counted of versions.
    pub loads: BTreeMap<Key, LoadCounts>,
}

/// A version that takes no new requests.
#[derive(Debug)]
pub(super) struct Retired {
    pub key: Key,
    pub version: Arc<Version>,
    pub memory: u64,
}

/// Where a version is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub state: State,
    pub generation: Option<u64>,
    pub reason: Option<String>,
}

/// What was told of a version.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub standing: Standing,
    pub since: SystemTime,
}

/// Where the configuration sends a model's requests.
fn configured(config: &ModelConfig) -> Traffic {
    config.traffic()
}

impl Inventory {
    /// What an admin call has said of whether a version is loaded.
    pub(super) fn wish(&self, model: &str, version: u64) -> Option<bool> {
        self.desired.models.get(model)?.loaded.get(&version).copied()
    }

    /// Where the requests of a model go.
    pub(super) fn traffic(&self, model: &str) -> Traffic {
        let asked = self.desired.models.get(model).and_then(|state| state.traffic.clone());
        asked.unwrap_or_else(|| self.configured(model))
    }

    fn configured(&self, model: &str) -> Traffic {
        self.models.get(model).map(|model| configured(&model.config)).unwrap_or_default()
    }

    /// The versions that the traffic of a model names.
    pub(super) fn named(&self, model: &str) -> BTreeSet<u64> {
        named(&self.traffic(model))
    }

    /// The versions that it would name after a rollback, or after an abort.
    pub(super) fn named_before(&self, model: &str) -> BTreeSet<u64> {
        let Some(state) = self.desired.models.get(model) else { return BTreeSet::new() };
        let configured = self.configured(model);
        state.next_snapshots().flat_map(|snapshot| snapshot.needs(&configured)).collect()
    }

    /// Authority over the traffic of a model.
    pub(super) fn source(&self, model: &str) -> Source {
        match self.desired.models.get(model) {
            Some(state) if state.traffic.is_some() => Source::Admin(state.traffic_revision),
            _ if self.configured(model) == Traffic::default() => Source::Default,
            _ => Source::Config,
        }
    }

    /// Whether settings or calls ask for any version of a model.
    pub(super) fn is_asked_for(&self, model: &str) -> bool {
        let loaded = self.desired.models.get(model).is_some_and(|state| state.loaded.values().any(|loaded| *loaded));
        loaded || !self.named(model).is_empty()
    }

    /// The names of all models that are there.
    pub(super) fn names(&self) -> BTreeSet<&String> {
        self.models.keys().chain(self.slots.keys().chain(&self.awaited).map(|(name, _)| name)).collect()
    }

    /// Whether a model is one of them.
    pub(super) fn has(&self, name: &str) -> bool {
        let all = (name.to_owned(), 0)..=(name.to_owned(), u64::MAX);
        self.models.contains_key(name)
            || self.slots.range(all.clone()).next().is_some()
            || self.awaited.range(all).next().is_some()
    }

    /// Whether something of a model answers.
    pub(super) fn serves(&self, name: &str) -> bool {
        let all = (name.to_owned(), 0)..=(name.to_owned(), u64::MAX);
        self.slots.range(all).any(|(_, slot)| slot.serving.is_some())
    }

    /// Whether a version, or any, is being loaded, or is to be loaded anew.
    pub(super) fn is_changing(&self, model: &str, version: Option<u64>) -> bool {
        let is_meant = |key: &&Key| key.0 == model && version.is_none_or(|version| version == key.1);
        self.loading.keys().chain(&self.anew).chain(&self.reloading).any(|key| is_meant(&key))
    }

    /// Where every version is in its life.
    pub(super) fn standings(&self) -> BTreeMap<Key, Standing> {
        self.names().into_iter().flat_map(|name| self.standings_of(name)).collect()
    }

    fn standings_of(&self, name: &str) -> BTreeMap<Key, Standing> {
        let (nothing, model) = (Model::default(), self.models.get(name));
        let model = model.unwrap_or(&nothing);
        let wanted = wanted(self, name, model);
        let all = (name.to_owned(), 0)..=(name.to_owned(), u64::MAX);
        let retired = self.retired.iter().map(|retired| &retired.key).filter(|key| key.0 == name);
        let wishes = self.desired.models.get(name).map(|state| &state.loaded);
        let on_disk = model.versions.keys().chain(&model.incomplete).filter(|_| model.problem.is_none());
        let mut numbers: BTreeSet<u64> = on_disk.copied().collect();
        let loaded = self.slots.range(all.clone()).map(|(key, _)| key);
        numbers.extend(loaded.chain(self.awaited.range(all)).chain(retired).map(|(_, version)| *version));
        numbers.extend(wishes.into_iter().flatten().filter(|(_, wish)| **wish).map(|(version, _)| *version));
        let standing = |number| {
            let key = (name.to_owned(), number);
            let standing = self.standing(&key, model, wanted.contains(&number));
            (key, standing)
        };
        numbers.into_iter().map(standing).collect()
    }

    fn standing(&self, key: &Key, model: &Model, wanted: bool) -> Standing {
        let version = &key.1;
        let (on_disk, incomplete) = (model.versions.contains_key(version), model.incomplete.contains(version));
        let in_state = |state, reason: Option<String>| Standing { state, generation: None, reason };
        if let Some(slot) = self.slots.get(key) {
            let failure = slot.failure.as_deref();
            let Some(serving) = &slot.serving else {
                let state = if failure.is_some() { State::Failed } else { State::Loading };
                return in_state(state, failure.map(str::to_owned));
            };
            let reason = match failure {
                Some(why) => Some(format!("the last reload failed: {why}")),
                None if incomplete => Some(INCOMPLETE.into()),
                None if !on_disk => Some(GONE.into()),
                None => None,
            };
            return Standing { generation: Some(serving.version.generation), ..in_state(State::Ready, reason) };
        }
        if let Some(retired) = self.retired.iter().rfind(|retired| retired.key == *key) {
            return Standing { generation: Some(retired.version.generation), ..in_state(State::Retiring, None) };
        }
        if self.awaited.contains(key) || wanted && model.problem.is_none() {
            in_state(State::Loading, None)
        } else if model.problem.is_some() {
            in_state(State::Failed, model.problem.clone())
        } else if incomplete {
            in_state(State::Unloaded, Some(INCOMPLETE.into()))
        } else if on_disk {
            let wish = self.wish(&key.0, *version);
            in_state(State::Unloaded, (wish == Some(false)).then(|| BY_CALL.into()))
        } else {
            in_state(State::Failed, Some(GONE.into()))
        }
    }

    /// Generations that drain while their version goes on with another.
    pub(super) fn draining(&self) -> BTreeSet<(Key, u64)> {
        let all = self.retired.iter().map(|retired| (retired.key.clone(), retired.version.generation));
        let is_told_as_the_version = |(key, generation): &(Key, u64)| {
            self.told.get(key).is_some_and(|told| told.standing.generation == Some(*generation))
        };
        all.filter(|which| !is_told_as_the_version(which)).collect()
    }

    /// Versions of which the files have to be looked at before they are loaded.
    pub(super) fn asked(&self) -> BTreeSet<Key> {
        self.awaited.union(&self.anew).cloned().collect()
    }

    /// Notes what a change wants loaded; `on_disk` is what the model's folder holds now.
    pub(super) fn ask(&mut self, model: &str, change: &Change, on_disk: &BTreeSet<u64>) {
        let (version, anew) = match change {
            Change::Load(version) => (version, false),
            Change::Reload(version) => (version, true),
            _ => return,
        };
        for number in version.map_or_else(|| on_disk.clone(), |version| BTreeSet::from([version])) {
            let key = (model.to_owned(), number);
            match self.slots.get_mut(&key) {
                Some(slot) if slot.serving.is_none() => {
                    (slot.failure, slot.is_lost, slot.retry, slot.losses) = (None, false, None, None);
                    self.anew.insert(key);
                }
                Some(_) if anew => {
                    self.reloading.insert(key.clone());
                    self.anew.insert(key);
                }
                None if !anew => drop(self.awaited.insert(key)),
                Some(_) | None => {}
            }
        }
    }

    /// What has to be known of a model to change it; `fresh` is what its folder holds now, where somebody has looked. `None`:
    /// there is no such model.
    pub(super) fn known(&self, name: &str, fresh: Option<&Model>) -> Option<Known> {
        let standings = self.standings_of(name);
        let model = self.models.get(name);
        if standings.is_empty() && model.is_none() && fresh.is_none() {
            return None;
        }
        let mut known = Known { configured: self.configured(name), ..Known::default() };
        for ((_, version), standing) in standings {
            if self.slots.contains_key(&(name.to_owned(), version)) {
                known.loaded.insert(version);
            }
            known.versions.insert(version, standing.ready());
        }
        let models = model.into_iter().chain(fresh);
        known.on_disk.extend(models.flat_map(|model| model.versions.keys()));
        for version in &known.on_disk {
            known.versions.entry(*version).or_insert_with(|| Err("it is not loaded".into()));
        }
        Some(known)
    }

    /// A model as it is now, if it is there.
    pub(super) fn status(&self, name: &str) -> Option<ModelStatus> {
        self.has(name).then(|| self.status_of(name))
    }

    /// Every model as it is now, by name.
    pub(super) fn statuses(&self) -> impl Iterator<Item = ModelStatus> {
        self.names().into_iter().map(|name| self.status_of(name))
    }

    fn status_of(&self, name: &str) -> ModelStatus {
        let asked = self.desired.models.get(name);
        let traffic = self.traffic(name);
        let standings = self.standings_of(name);
        let ready = standings.iter().filter(|(_, standing)| standing.state == State::Ready);
        let shares = shares(&traffic, &ready.map(|((_, version), _)| *version).collect());
        let status = |(key, standing): (Key, Standing)| self.version_status(&key, standing, &traffic, &shares);
        ModelStatus {
            name: name.to_owned(),
            revision: asked.map_or(0, |state| state.revision),
            versions: standings.into_iter().map(status).collect(),
            source: self.source(name),
            shadowed: Some(self.configured(name))
                .filter(|configured| *configured != traffic && *configured != Traffic::default()),
            problem: self.models.get(name).and_then(|model| model.problem.clone()),
            warnings: self.models.get(name).and_then(Model::warning).into_iter().map(str::to_owned).collect(),
            traffic,
        }
    }

    /// Memory that counts towards the limit, by the estimate.
    pub(super) fn memory(&self) -> u64 {
        let serving = self.slots.values().filter_map(|slot| slot.serving.as_ref()).map(|serving| serving.memory);
        let retired = self.retired.iter().map(|retired| retired.memory);
        let loading = self.loading.values().chain(self.given_up.values());
        serving.chain(loading.copied()).chain(retired).sum()
    }

    fn version_status(
        &self,
        key: &Key,
        standing: Standing,
        traffic: &Traffic,
        shares: &BTreeMap<u64, f64>,
    ) -> VersionStatus {
        let version = key.1;
        let serving = self.slots.get(key).and_then(|slot| slot.serving.as_ref());
        let source = self.models.get(&key.0).and_then(|model| model.versions.get(&version));
        let aliases = traffic.aliases.iter().filter(|(_, named)| **named == version);
        VersionStatus {
            version,
            state: standing.state,
            since: self.told.get(key).map_or_else(clock::now, |told| told.since),
            generation: standing.generation,
            weight: (!traffic.weights.is_empty()).then(|| traffic.weights.of(version)),
            share: shares.get(&version).copied().unwrap_or(0.0),
            aliases: aliases.map(|(alias, _)| alias.clone()).collect(),
            memory_bytes: serving.map(|serving| serving.memory),
            run_memory_bytes: serving.map(|serving| serving.version.metrics.memory().runs() as u64),
            load_seconds: serving.map(|serving| serving.version.load_time.as_secs_f64()),
            devices: serving.map(|serving| serving.version.derived.devices_shown()).unwrap_or_default(),
            isolation: serving.map(|serving| serving.version.derived.isolation_label()),
            isolation_reason: serving.and_then(|serving| serving.version.derived.isolation.clone()),
            path: source.map(|source| source.path.to_path_buf()),
            problem: standing.reason,
        }
    }
}

/// Whether a reason may be told to every client: it names nothing of the host.
pub(super) fn is_public(reason: &str) -> bool {
    [BY_CALL, GONE, INCOMPLETE, super::plan::GONE].contains(&reason)
}

const BY_CALL: &str = "an admin call asked for it to be unloaded, and it stays so until one asks for it to be loaded";
const GONE: &str = "the repository does not hold its files";
const INCOMPLETE: &str = "its folder does not hold the marker of a version that is complete";

impl Standing {
    /// Whether the version answers, or why not, for people.
    fn ready(&self) -> Result<(), String> {
        let reason = || self.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        match self.state {
            State::Ready => Ok(()),
            State::Loading => Err("it is being loaded".into()),
            State::Retiring => Err("it is retiring".into()),
            State::Unloaded => Err(format!("it is not loaded{}", reason())),
            State::Failed => Err(format!("it failed to be loaded{}", reason())),
        }
    }
}
