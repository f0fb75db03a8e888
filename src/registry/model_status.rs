//! Models and versions as admin calls and metrics see them.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    generation::{Generation, LoadedVersion},
    inventory::Inventory,
    room::MemoryUse,
    status::{ModelStatus, Standing, TrafficSource, VersionState, VersionStatus},
};
use crate::{
    clock,
    loader::VersionKey,
    repository::RepositoryModel,
    state::{ModelFacts, shares},
    traffic::Traffic,
};

impl Inventory<LoadedVersion> {
    /// Facts by which a change of a model is judged; `fresh` is the model as its folder is now, where it was scanned for that. `None`:
    /// there is no such model.
    pub(super) fn facts(&self, name: &str, fresh: Option<&RepositoryModel>) -> Option<ModelFacts> {
        let standings = self.standings_of(name);
        let model = self.models.get(name);
        if standings.is_empty() && model.is_none() && fresh.is_none() {
            return None;
        }
        let mut facts = ModelFacts { configured: self.configured(name), ..ModelFacts::default() };
        for (key, standing) in standings {
            if self.lifecycle(&key).is_some() {
                facts.loaded.insert(key.1);
            }
            facts.versions.insert(key.1, standing.ready());
        }
        let models = model.into_iter().chain(fresh);
        facts.on_disk.extend(models.flat_map(|model| model.versions.keys()));
        for version in &facts.on_disk {
            facts.versions.entry(*version).or_insert_with(|| Err("it is not loaded".into()));
        }
        Some(facts)
    }

    /// The status of a model, if it exists.
    pub(super) fn status(&self, name: &str) -> Option<ModelStatus> {
        self.has(name).then(|| self.status_of(name))
    }

    /// The status of every model, by name.
    pub(super) fn statuses(&self) -> impl Iterator<Item = ModelStatus> {
        self.names().into_iter().map(|name| self.status_of(name))
    }

    /// Authority over the traffic of a model.
    pub(super) fn source(&self, model: &str) -> TrafficSource {
        match self.desired.models.get(model) {
            Some(state) if state.traffic.is_some() => TrafficSource::Admin(state.traffic_revision),
            _ if self.configured(model) == Traffic::default() => TrafficSource::Default,
            _ => TrafficSource::Config,
        }
    }

    /// Estimated memory that counts towards the limit, in bytes.
    pub(super) fn memory(&self) -> u64 {
        MemoryUse::of(self).all()
    }

    fn status_of(&self, name: &str) -> ModelStatus {
        let asked = self.desired.models.get(name);
        let traffic = self.traffic(name);
        let standings = self.standings_of(name);
        let ready = standings.iter().filter(|(_, standing)| standing.state == VersionState::Ready);
        let shares = shares(&traffic, &ready.map(|((_, version), _)| *version).collect());
        let status = |(key, standing): (VersionKey, Standing)| self.version_status(&key, standing, &traffic, &shares);
        ModelStatus {
            name: name.to_owned(),
            revision: asked.map_or(0, |state| state.revision),
            versions: standings.into_iter().map(status).collect(),
            source: self.source(name),
            shadowed: Some(self.configured(name))
                .filter(|configured| *configured != traffic && *configured != Traffic::default()),
            problem: self.models.get(name).and_then(|model| model.problem.clone()),
            warnings: self.models.get(name).and_then(RepositoryModel::warning).into_iter().map(str::to_owned).collect(),
            traffic,
        }
    }

    fn version_status(
        &self,
        key: &VersionKey,
        standing: Standing,
        traffic: &Traffic,
        shares: &BTreeMap<u64, f64>,
    ) -> VersionStatus {
        let version = key.1;
        let serving = self.serving(key);
        let loaded = serving.map(|serving| &serving.version);
        let source = self.models.get(&key.0).and_then(|model| model.versions.get(&version));
        let aliases = traffic.aliases.iter().filter(|(_, named)| **named == version);
        VersionStatus {
            version,
            state: standing.state,
            since: self.announced.versions.get(key).map_or_else(clock::now, |announced| announced.since),
            generation: standing.generation,
            weight: (!traffic.weights.is_empty()).then(|| traffic.weights.of(version)),
            share: shares.get(&version).copied().unwrap_or(0.0),
            aliases: aliases.map(|(alias, _)| alias.clone()).collect(),
            memory_bytes: serving.map(Generation::memory),
            run_memory_bytes: loaded.map(|version| version.metrics.memory().runs() as u64),
            load_seconds: loaded.map(|version| version.load_time.as_secs_f64()),
            devices: loaded.map(|version| version.derived.devices_shown()).unwrap_or_default(),
            isolation: loaded.map(|version| version.derived.isolation_label()),
            isolation_reason: loaded.and_then(|version: &Arc<_>| version.derived.isolation.clone()),
            path: source.map(|source| source.path.to_path_buf()),
            problem: standing.reason,
        }
    }
}
