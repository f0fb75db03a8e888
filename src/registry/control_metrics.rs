//! What the registry tells Prometheus.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::UNIX_EPOCH,
};

use super::{
    inventory::Inventory,
    status::{ModelStatus, State, VersionStatus},
};
use crate::{
    metrics::{ControlMetrics, ModelStanding, VersionStanding},
    router::{Derived, Version},
    state::Record,
};

/// What is told of everything that is there. What nothing asks for is not told of, though the repository holds it.
pub(super) fn metrics(inventory: &Inventory) -> ControlMetrics {
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

/// The versions that answer.
fn serving(inventory: &Inventory) -> impl Iterator<Item = &Version> {
    inventory.slots.values().filter_map(|slot| slot.serving.as_ref()).map(|serving| &*serving.version)
}

/// Instances by what they run on.
fn instances(inventory: &Inventory) -> BTreeMap<String, u64> {
    let mut instances = BTreeMap::new();
    for Derived { devices, instances: all, .. } in serving(inventory).map(|version| &version.derived) {
        for device in devices {
            *instances.entry(*device).or_insert(0) += (all / devices.len()) as u64;
        }
    }
    instances.into_iter().map(|(device, count)| (device.to_string(), count)).collect()
}

fn model(inventory: &Inventory, status: &ModelStatus) -> ModelStanding {
    let history = inventory.desired.models.get(&status.name).map(|state| &state.history);
    let moved = history.and_then(|history| history.iter().rfind(|record| record.after.is_some()));
    let there: BTreeSet<u64> = status.versions.iter().map(|version| version.version).collect();
    let told = status.versions.iter().filter(|version| version.state != State::Unloaded || version.weight > Some(0.0));
    let weights = status.traffic.weights.iter().filter(|(version, _)| !there.contains(version));
    let missing = |(version, weight)| VersionStanding { version, weight: Some(weight), ..VersionStanding::default() };
    ModelStanding {
        model: status.name.clone(),
        traffic_changed: moved.and_then(seconds),
        ready: status.versions.iter().filter(|version| version.state == State::Ready).count() as u64,
        versions: told.map(|told| version(inventory, &status.name, told)).chain(weights.map(missing)).collect(),
    }
}

fn version(inventory: &Inventory, model: &str, status: &VersionStatus) -> VersionStanding {
    let key = (model.to_owned(), status.version);
    let slot = inventory.slots.get(&key);
    let has_ended = slot.is_some_and(|slot| slot.serving.is_some() || slot.failure.is_some());
    VersionStanding {
        version: status.version,
        state: Some(status.state.label()),
        aliases: status.aliases.clone(),
        generation: status.generation,
        weight: status.weight,
        share: status.share,
        memory: status.memory_bytes,
        last_load: has_ended.then(|| slot.is_some_and(|slot| slot.failure.is_none() || slot.is_lost)),
        loads: inventory.loads.get(&key).copied().unwrap_or_default(),
    }
}

/// When a change was made, since the Unix epoch. Records come from a file, which people may have touched.
fn seconds(record: &Record) -> Option<f64> {
    let time = humantime::parse_rfc3339(&record.time).ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())
}
