//! Models that count for the server's readiness: pure.
//!
//! A model counts if it is there when the repository is first read and is to be loaded then. One that comes later, by its files
//! or an admin call, counts once it has had a READY version: its load must not take the server out of rotation. A model that
//! is to be loaded no more, since an admin call unloaded it or its files went, counts no more.

use std::collections::BTreeMap;

use super::{
    generation::LoadedVersion,
    inventory::{Inventory, RegistryPhase},
    status::{Standing, VersionState},
};
use crate::{config::ModelControl, loader::VersionKey, router::Readiness};

/// State of a model, as readiness counts it.
#[derive(Debug, PartialEq, Eq)]
enum Serving {
    /// One of its versions is READY.
    Ready,
    /// None is, though one should be; why, for every client.
    Lacking(String),
    /// Nothing asks for any of its versions.
    Unasked,
}

/// Brings the models that count up to date, and returns their state.
pub(super) fn readiness(
    inventory: &mut Inventory<LoadedVersion>,
    standings: &BTreeMap<VersionKey, Standing>,
) -> Readiness {
    let mut versions: BTreeMap<&str, Vec<(u64, &Standing)>> = BTreeMap::new();
    for ((model, version), standing) in standings {
        versions.entry(model).or_default().push((*version, standing));
    }
    let of = |name: &String| serving(inventory, name, versions.get(name.as_str()).map_or(&[][..], Vec::as_slice));
    let now: BTreeMap<String, Serving> = inventory.names().into_iter().map(|name| (name.clone(), of(name))).collect();
    inventory.counted.retain(|name| now.get(name).is_some_and(|serving| *serving != Serving::Unasked));
    let ready = now.iter().filter(|(_, serving)| **serving == Serving::Ready).map(|(name, _)| name);
    inventory.counted.extend(ready.clone().cloned());
    let ready = ready.count();
    let lacking = now.into_iter().filter_map(|(name, serving)| match serving {
        Serving::Lacking(why) if inventory.counted.contains(&name) => Some((name, why)),
        _ => None,
    });
    Readiness { is_known: inventory.phase != RegistryPhase::Unread, ready, lacking: lacking.collect() }
}

fn serving(inventory: &Inventory<LoadedVersion>, name: &str, versions: &[(u64, &Standing)]) -> Serving {
    let first = |state| versions.iter().rfind(|(_, standing)| standing.state == state).map(|(version, _)| version);
    if first(VersionState::Ready).is_some() {
        return Serving::Ready;
    }
    if let Some(version) = first(VersionState::Loading) {
        return Serving::Lacking(format!("version {version} is being loaded"));
    }
    if let Some(version) = first(VersionState::Failed) {
        return Serving::Lacking(format!("version {version} failed to load"));
    }
    let Some(model) = inventory.models.get(name) else { return Serving::Unasked };
    let is_unloaded = versions.iter().any(|(version, _)| inventory.wish(name, *version) == Some(false));
    match () {
        () if model.problem.is_some() => Serving::Lacking("its folder can't be used as it is".into()),
        () if is_unloaded || inventory.control == ModelControl::Explicit || !model.incomplete.is_empty() => {
            Serving::Unasked
        }
        () if model.versions.is_empty() => Serving::Lacking("its folder holds no version".into()),
        () => Serving::Lacking("its settings choose none of the versions in its folder".into()),
    }
}
