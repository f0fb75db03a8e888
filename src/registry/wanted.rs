//! Versions that should be loaded, and those that should not: pure.

use std::collections::BTreeSet;

use super::{
    generation::Generation,
    inventory::{Inventory, RegistryPhase},
    lifecycle::Lifecycle,
};
use crate::{
    config::{ModelControl, Versions},
    loader::VersionKey,
    repository::RepositoryModel,
};

const FILES_GONE: &str = "its files are gone";
const LEFT_OUT: &str = "the model's setting `versions` leaves it out";

/// The versions of a model that the repository holds and that are to be loaded.
pub(super) fn wanted<G>(inventory: &Inventory<G>, name: &str, model: &RepositoryModel) -> BTreeSet<u64> {
    let by_itself = match inventory.control {
        ModelControl::Poll => true,
        ModelControl::None => inventory.phase == RegistryPhase::Unread,
        ModelControl::Explicit => false,
    };
    let chosen = model.config.versions.chosen(model.versions.keys().copied());
    let named = &inventory.named(name) | &inventory.named_before(name);
    let is_wanted = |version: &u64| match inventory.wish(name, *version) {
        Some(wish) => wish,
        None => by_itself && (chosen.contains(version) || named.contains(version)),
    };
    model.versions.keys().copied().filter(is_wanted).collect()
}

/// The versions that are to be unloaded, with the reasons, for people.
pub(super) fn leaving<G: Generation>(inventory: &Inventory<G>) -> Vec<(VersionKey, &'static str)> {
    let tracked = inventory.versions.iter().filter(|(_, tracked)| !tracked.lifecycle.is_retiring());
    let leaving = tracked.filter_map(|(key, tracked)| Some((key.clone(), leaves(inventory, key, &tracked.lifecycle)?)));
    leaving.collect()
}

/// The reason to unload a version, if there is one. A version that an admin call asked for, or that gets requests by the settings,
/// does not go because its files have gone; and none goes for others before those serve.
fn leaves<G: Generation>(
    inventory: &Inventory<G>,
    (name, version): &VersionKey,
    lifecycle: &Lifecycle<G>,
) -> Option<&'static str> {
    let wish = inventory.wish(name, *version);
    if wish == Some(false) {
        return Some("an admin call asked for it");
    }
    if lifecycle.is_unscanned() {
        return None;
    }
    let Some(model) = inventory.models.get(name) else { return Some(FILES_GONE) };
    if model.problem.is_some() || model.incomplete.contains(version) {
        return None;
    }
    let decides = inventory.control == ModelControl::Poll && wish.is_none();
    let serves = lifecycle.serving().is_some();
    if !model.versions.contains_key(version) {
        let stays = serves && (!decides || inventory.named(name).contains(version));
        return (!stays).then_some(FILES_GONE);
    }
    if !decides || model.config.versions == Versions::All {
        return None;
    }
    let wanted = wanted(inventory, name, model);
    if wanted.contains(version) {
        return None;
    }
    let is_served = |version: &u64| inventory.serving(&(name.clone(), *version)).is_some();
    let is_replaced = !wanted.is_empty() && wanted.iter().all(is_served);
    // A version that has not begun to load is not needed until then either.
    let has_not_begun = lifecycle.is_new() && lifecycle.load().is_none();
    (is_replaced || has_not_begun).then_some(LEFT_OUT)
}
