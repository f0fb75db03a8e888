//! The routing table, built from the inventory.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    generation::LoadedVersion,
    inventory::Inventory,
    standing::is_public,
    status::{Standing, VersionState},
};
use crate::{
    loader::VersionKey,
    router::{ModelEntry, Readiness, Routing, Table, VersionEntry},
};

/// Reason for every client. Reasons that name files of the host, or quote them, stay with the log and the admin API.
const FAILED: &str = "it failed to load; the server's log and its admin API (onnxd models) say why";
const UNREADABLE: &str = "its folder can't be used as it is; the server's log and its admin API (onnxd models) say why";

/// The whole table.
pub(super) fn table(
    inventory: &Inventory<LoadedVersion>,
    standings: &BTreeMap<VersionKey, Standing>,
    readiness: Readiness,
) -> Table {
    let mut versions: BTreeMap<&str, BTreeMap<u64, VersionEntry>> = BTreeMap::new();
    for (key, standing) in standings {
        versions.entry(&key.0).or_default().insert(key.1, entry(inventory, key, standing));
    }
    let model =
        |name: &String| (name.clone(), model(inventory, name, versions.remove(name.as_str()).unwrap_or_default()));
    Table { models: inventory.names().into_iter().map(model).collect(), readiness }
}

fn model(inventory: &Inventory<LoadedVersion>, name: &str, versions: BTreeMap<u64, VersionEntry>) -> ModelEntry {
    let problem = inventory.models.get(name).and_then(|model| model.problem.as_deref());
    let problem = problem.map(|problem| if is_public(problem) { problem } else { UNREADABLE }.to_owned());
    let key_headers =
        inventory.models.get(name).map(|model| model.config.routing_key_headers.clone()).unwrap_or_default();
    ModelEntry::new(versions, Routing { traffic: inventory.traffic(name), key_headers }, problem)
}

fn entry(inventory: &Inventory<LoadedVersion>, key: &VersionKey, standing: &Standing) -> VersionEntry {
    let reason = standing.reason.as_deref().filter(|reason| is_public(reason));
    let why = |what: &str| VersionEntry::Failed(Arc::from(reason.unwrap_or(what)));
    match standing.state {
        VersionState::Ready => match inventory.serving(key) {
            Some(serving) => VersionEntry::Ready(serving.version.clone()),
            None => VersionEntry::Loading,
        },
        VersionState::Loading => VersionEntry::Loading,
        VersionState::Failed => why(FAILED),
        VersionState::Unloaded => why("it is not loaded"),
        VersionState::Retiring => VersionEntry::Retiring,
    }
}
