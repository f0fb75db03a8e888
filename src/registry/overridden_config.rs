//! Warns of edits of a configuration's traffic that don't hold, since admin calls have decided where requests go.

use std::collections::BTreeMap;

use super::{generation::LoadedVersion, inventory::Inventory};
use crate::{repository::RepositoryModel, traffic::Traffic};

/// Logs each edit that comes with `models`, against those that the inventory has: before them, those at the last admin call.
pub(super) fn warn_of_edits(inventory: &Inventory<LoadedVersion>, models: &BTreeMap<String, RepositoryModel>) {
    for (name, model) in models.iter().filter(|(_, model)| model.problem.is_none()) {
        let Some(state) = inventory.desired.models.get(name) else { continue };
        let Some(holds) = &state.traffic else { continue };
        let known = inventory.models.get(name).filter(|before| before.problem.is_none());
        let before = known.map(|before| before.config.traffic()).or_else(|| state.shadowed.clone());
        let now = model.config.traffic();
        let Some(before) = before.filter(|before| *before != now && now != *holds) else { continue };
        let (keys, source) = (edited(&before, &now), inventory.source(name));
        tracing::warn!(
            model = name,
            keys,
            %source,
            traffic = %holds,
            configured = %now,
            hint = format!("`onnxd traffic reset {name}` gives the traffic back to config.toml"),
            "config.toml changed without effect, admin calls decide the traffic"
        );
    }
}

fn edited(before: &Traffic, now: &Traffic) -> &'static str {
    match (before.weights != now.weights, before.aliases != now.aliases) {
        (true, true) => "`weights` and `aliases`",
        (true, false) => "`weights`",
        _ => "`aliases`",
    }
}
