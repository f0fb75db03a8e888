//! Standing of each version: its state as watchers, metrics and the routing table see it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    generation::Generation,
    inventory::Inventory,
    lifecycle::Lifecycle,
    settle::FOLDER_GONE,
    status::{Standing, VersionState},
    wanted::wanted,
};
use crate::{loader::VersionKey, repository::RepositoryModel};

const UNLOADED_BY_CALL: &str =
    "an admin call asked for it to be unloaded, and it stays so until one asks for it to be loaded";
const FILES_GONE: &str = "the repository does not hold its files";
const INCOMPLETE: &str = "its folder does not hold the marker of a version that is complete";

/// True if every client may see a reason: it names nothing of the host.
pub(super) fn is_public(reason: &str) -> bool {
    [UNLOADED_BY_CALL, FILES_GONE, INCOMPLETE, FOLDER_GONE].contains(&reason)
}

impl<G: Generation> Inventory<G> {
    /// The standing of every version.
    pub(super) fn standings(&self) -> BTreeMap<VersionKey, Standing> {
        self.names().into_iter().flat_map(|name| self.standings_of(name)).collect()
    }

    /// The standing of each version of a model.
    pub(super) fn standings_of(&self, name: &str) -> BTreeMap<VersionKey, Standing> {
        let (nothing, model) = (RepositoryModel::default(), self.models.get(name));
        let model = model.unwrap_or(&nothing);
        let wanted = wanted(self, name, model);
        let wishes = self.desired.models.get(name).map(|state| &state.loaded);
        let on_disk = model.versions.keys().chain(&model.incomplete).filter(|_| model.problem.is_none());
        let tracked = self
            .versions_of(name)
            .filter(|(_, tracked)| !tracked.lifecycle.is_retiring() || !tracked.leftovers.draining.is_empty());
        let mut numbers: BTreeSet<u64> = on_disk.copied().collect();
        numbers.extend(tracked.map(|((_, version), _)| *version));
        numbers.extend(wishes.into_iter().flatten().filter(|(_, wish)| **wish).map(|(version, _)| *version));
        let standing = |number| {
            let key = (name.to_owned(), number);
            let standing = self.standing(&key, model, wanted.contains(&number));
            (key, standing)
        };
        numbers.into_iter().map(standing).collect()
    }

    fn standing(&self, key: &VersionKey, model: &RepositoryModel, is_wanted: bool) -> Standing {
        let version = &key.1;
        let (on_disk, incomplete) = (model.versions.contains_key(version), model.incomplete.contains(version));
        let in_state = |state, reason: Option<String>| Standing { state, generation: None, reason };
        let lifecycle = self.lifecycle(key);
        let failure = lifecycle.and_then(Lifecycle::failure).map(|failure| failure.why.to_string());
        if let Some(serving) = lifecycle.and_then(Lifecycle::serving) {
            let reason = match failure {
                Some(why) => Some(format!("the last reload failed: {why}")),
                None if incomplete => Some(INCOMPLETE.into()),
                None if !on_disk => Some(FILES_GONE.into()),
                None => None,
            };
            return Standing { generation: Some(serving.number()), ..in_state(VersionState::Ready, reason) };
        }
        if failure.is_some() {
            return in_state(VersionState::Failed, failure);
        }
        let draining = self.versions.get(key).and_then(|tracked| tracked.leftovers.draining.last());
        if let (None, Some(last)) = (lifecycle, draining) {
            return Standing { generation: Some(last.number()), ..in_state(VersionState::Retiring, None) };
        }
        let loads = lifecycle.is_some_and(|lifecycle| lifecycle.is_unscanned() || lifecycle.load().is_some());
        let waits = lifecycle.is_some() && on_disk || is_wanted;
        if loads || waits && model.problem.is_none() {
            in_state(VersionState::Loading, None)
        } else if model.problem.is_some() {
            in_state(VersionState::Failed, model.problem.clone())
        } else if incomplete {
            in_state(VersionState::Unloaded, Some(INCOMPLETE.into()))
        } else if on_disk {
            let wish = self.wish(&key.0, *version);
            in_state(VersionState::Unloaded, (wish == Some(false)).then(|| UNLOADED_BY_CALL.into()))
        } else {
            in_state(VersionState::Failed, Some(FILES_GONE.into()))
        }
    }

    /// Generations that drain while their version goes on with another.
    pub(super) fn draining(&self) -> BTreeSet<(VersionKey, u64)> {
        let all = self.versions.iter().flat_map(|(key, tracked)| {
            tracked.leftovers.draining.iter().map(move |generation| (key.clone(), generation.number()))
        });
        let is_announced_as_the_version = |(key, generation): &(VersionKey, u64)| {
            let announced = self.announced.versions.get(key);
            announced.is_some_and(|announced| announced.standing.generation == Some(*generation))
        };
        all.filter(|which| !is_announced_as_the_version(which)).collect()
    }
}
