//! Metrics of models and versions: states, weights, loads.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::UNIX_EPOCH,
};

use super::{
    generation::LoadedVersion,
    inventory::Inventory,
    status::{ModelStatus, VersionState, VersionStatus},
};
use crate::{
    metrics::{ControlMetrics, ModelStanding, VersionStanding},
    router::{Derived, Version},
    state::Record,
};

/// Metrics of all models. Versions that nothing asks for have none, though the repository holds them.
pub(super) fn metrics(inventory: &Inventory<LoadedVersion>) -> ControlMetrics {
    let desired = &inventory.desired;
    let last = desired.models.values().filter_map(|state| state.history.last()).max_by_key(|record| record.revision);
    ControlMetrics {
        revision: desired.revision,
        changed: last.and_then(seconds),
        instances: instances(inventory),
        fallbacks: serving(inventory).filter(|version| version.derived.fallback.is_some()).count() as u64,
        models: inventory.statuses().map(|status| model(inventory, &status)).collect(),
    }
}

/// The versions that serve.
fn serving(inventory: &Inventory<LoadedVersion>) -> impl Iterator<Item = &Version> {
    inventory.all_serving().map(|serving| &*serving.version)
}

/// Instances by what they run on.
fn instances(inventory: &Inventory<LoadedVersion>) -> BTreeMap<String, u64> {
    let mut instances = BTreeMap::new();
    for Derived { devices, instances: all, .. } in serving(inventory).map(|version| &version.derived) {
        for device in devices {
            *instances.entry(*device).or_insert(0) += (all / devices.len()) as u64;
        }
    }
    instances.into_iter().map(|(device, count)| (device.to_string(), count)).collect()
}

fn model(inventory: &Inventory<LoadedVersion>, status: &ModelStatus) -> ModelStanding {
    let history = inventory.desired.models.get(&status.name).map(|state| &state.history);
    let moved = history.and_then(|history| history.iter().rfind(|record| record.after.is_some()));
    let there: BTreeSet<u64> = status.versions.iter().map(|version| version.version).collect();
    let shown =
        status.versions.iter().filter(|version| version.state != VersionState::Unloaded || version.weight > Some(0.0));
    let weights = status.traffic.weights.iter().filter(|(version, _)| !there.contains(version));
    let missing = |(version, weight)| VersionStanding { version, weight: Some(weight), ..VersionStanding::default() };
    ModelStanding {
        model: status.name.clone(),
        traffic_changed: moved.and_then(seconds),
        ready: status.versions.iter().filter(|version| version.state == VersionState::Ready).count() as u64,
        versions: shown.map(|shown| version(inventory, &status.name, shown)).chain(weights.map(missing)).collect(),
    }
}

fn version(inventory: &Inventory<LoadedVersion>, model: &str, status: &VersionStatus) -> VersionStanding {
    let key = (model.to_owned(), status.version);
    VersionStanding {
        version: status.version,
        state: Some(status.state.label()),
        aliases: status.aliases.clone(),
        generation: status.generation,
        weight: status.weight,
        share: status.share,
        memory: status.memory_bytes,
        last_load: inventory.lifecycle(&key).and_then(|lifecycle| lifecycle.last_load()),
        loads: inventory.load_counts.get(&key).copied().unwrap_or_default(),
    }
}

/// Time of a change since the Unix epoch. Records come from a file, which people may have edited.
fn seconds(record: &Record) -> Option<f64> {
    let time = humantime::parse_rfc3339(&record.time).ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())
}
