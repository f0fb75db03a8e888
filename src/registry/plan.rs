//! What is to be done: pure functions from what is wanted and what is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{inventory::Inventory, losses::Losses};
use crate::loader::{Key, Wanted};
use crate::{
    config::{ModelControl, Versions},
    repository::Model,
    router::Version,
};

/// What is there of a version.
#[derive(Debug)]
pub(super) struct Slot {
    /// What the last load was asked for, however it ended: it is not tried again until something else is wanted, or it is
    /// time to.
    pub attempted: Wanted,
    pub serving: Option<Serving>,
    /// Why the last load failed, or why the version is out of service.
    pub failure: Option<Arc<str>>,
    /// True if the failure is that the version was taken out of service: its last load went well.
    pub is_lost: bool,
    /// When it is tried again though nothing has changed: the cause may have passed by then.
    pub retry: Option<Retry>,
    /// Losses of the version while it served, as long as its files and settings are the same.
    pub losses: Option<Losses>,
    /// A changed model file that waits for its weights.
    pub held: Option<Held>,
}

/// A load that is held back: the model file was replaced, and its weights may be on their way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub wanted: Wanted,
    /// When it is loaded with the weights that are there.
    pub until: Instant,
}

/// Time for which a changed model file waits for a change of its weights.
pub(super) const WEIGHTS_DELAY: Duration = Duration::from_secs(20);

/// A version that is loaded.
#[derive(Debug)]
pub(super) struct Serving {
    pub version: Arc<Version>,
    /// Bytes of its weights on the host.
    pub memory: u64,
}

/// When a load is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retry {
    pub at: Instant,
    pause: Duration,
}

impl Retry {
    const FIRST: Duration = Duration::from_secs(1);
    const LAST: Duration = Duration::from_secs(300);

    /// After the first failure, or one more: in twice the time, up to a limit.
    pub(super) fn after(previous: Option<Retry>, now: Instant) -> Self {
        let pause = previous.map_or(Self::FIRST, |previous| (previous.pause * 2).min(Self::LAST));
        Retry { at: now + pause, pause }
    }
}

impl Slot {
    /// A slot that nothing has been loaded into yet.
    pub(super) fn new(attempted: Wanted) -> Self {
        Slot { attempted, serving: None, failure: None, is_lost: false, retry: None, losses: None, held: None }
    }

    /// Whether it is time to try again.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.is_retried(now) || self.held.as_ref().is_some_and(|held| held.until <= now)
    }

    /// True if a load that failed is due again.
    fn is_retried(&self, now: Instant) -> bool {
        self.retry.is_some_and(|retry| retry.at <= now)
    }

    /// When it is time to try again, if ever.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.retry.map(|retry| retry.at).into_iter().chain(self.held.as_ref().map(|held| held.until)).min()
    }

    /// True if a change waits for weights: what serves is not replaced by a new graph over the old ones.
    fn is_held(&self, wanted: &Wanted, now: Instant) -> bool {
        let is_over = self.held.as_ref().is_some_and(|held| held.wanted == *wanted && held.until <= now);
        let (files, before) = (&wanted.source.fingerprint, &self.attempted.source.fingerprint);
        !is_over && self.serving.is_some() && files.may_await_weights(before)
    }

    /// Losses that count for a version that is loaded from this.
    pub(super) fn losses_of(&self, wanted: &Wanted) -> Option<Losses> {
        self.losses.filter(|_| self.attempted == *wanted)
    }

    pub(super) fn is_new(&self) -> bool {
        self.serving.is_none() && self.failure.is_none()
    }
}

/// What to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub load: Vec<(Key, Wanted)>,
    /// Loads that wait for weights, which were not held back before.
    pub hold: Vec<(Key, Wanted)>,
    /// With the reasons, for people.
    pub unload: Vec<(Key, &'static str)>,
}

/// The difference between what should be loaded and what is there. Of a model with a problem, which may be half read, nothing
/// is loaded. `anew` is what is to be loaded again though nothing has changed.
pub(super) fn plan(inventory: &Inventory, anew: &BTreeSet<Key>, now: Instant) -> Plan {
    let unload = leaving(inventory);
    let (mut load, mut hold) = (Vec::new(), Vec::new());
    let follows = inventory.control == ModelControl::Poll;
    let leaving: BTreeSet<&Key> = unload.iter().map(|(key, _)| key).collect();
    for (name, model) in inventory.models.iter().filter(|(_, model)| model.problem.is_none()) {
        let config = model.config.for_load();
        let chosen = wanted(inventory, name, model);
        for (version, source) in &model.versions {
            let key = (name.clone(), *version);
            let wanted = Wanted { source: source.clone(), config: config.clone() };
            let is_chosen = chosen.contains(version);
            let is_due = match inventory.slots.get(&key) {
                _ if inventory.loading.contains_key(&key) || leaving.contains(&key) => false,
                // Its files may have changed since they were last looked at.
                _ if inventory.anew.contains(&key) || inventory.awaited.contains(&key) => false,
                None => is_chosen,
                Some(slot) if is_chosen || !follows => {
                    let mut changed = follows && slot.attempted != wanted;
                    if changed && !anew.contains(&key) && slot.is_held(&wanted, now) {
                        if slot.held.as_ref().is_none_or(|held| held.wanted != wanted) {
                            hold.push((key.clone(), wanted.clone()));
                        }
                        changed = false;
                    }
                    slot.is_new() || changed || slot.is_retried(now) || anew.contains(&key)
                }
                Some(_) => false,
            };
            if is_due {
                load.push((key, wanted));
            }
        }
    }
    Plan { load, hold, unload }
}

/// The versions of a model that the repository holds and that are to be loaded.
pub(super) fn wanted(inventory: &Inventory, name: &str, model: &Model) -> BTreeSet<u64> {
    let by_itself = match inventory.control {
        ModelControl::Poll => true,
        ModelControl::None => !inventory.started,
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

/// What is there and should not be.
pub(super) fn leaving(inventory: &Inventory) -> Vec<(Key, &'static str)> {
    let leaving = inventory.slots.iter().filter_map(|(key, slot)| Some((key.clone(), leaves(inventory, key, slot)?)));
    leaving.collect()
}

/// Why a version is to be unloaded, if it is. What has been asked for by a call, or gets requests by the settings, does not go
/// because its files have gone; and none goes for others before those are there.
fn leaves(inventory: &Inventory, (name, version): &Key, slot: &Slot) -> Option<&'static str> {
    const GONE: &str = "its files are gone";
    let wish = inventory.wish(name, *version);
    if wish == Some(false) {
        return Some("an admin call asked for it");
    }
    let Some(model) = inventory.models.get(name) else { return Some(GONE) };
    if model.problem.is_some() || model.incomplete.contains(version) {
        return None;
    }
    let decides = inventory.control == ModelControl::Poll && wish.is_none();
    if !model.versions.contains_key(version) {
        let stays = slot.serving.is_some() && (!decides || inventory.named(name).contains(version));
        return (!stays).then_some(GONE);
    }
    if !decides || model.config.versions == Versions::All {
        return None;
    }
    let wanted = wanted(inventory, name, model);
    let serves =
        |version: &u64| inventory.slots.get(&(name.clone(), *version)).is_some_and(|slot| slot.serving.is_some());
    let replaced = !wanted.is_empty() && !wanted.contains(version) && wanted.iter().all(serves);
    replaced.then_some("the model's setting `versions` leaves it out")
}

/// What is wrong with a model whose folder went while it serves.
pub(super) const GONE: &str =
    "the repository does not hold it any more; it is served until it is unloaded by an admin call";

/// The models to act on: of each, what two scans in a row agree on, else what was acted on before. Files that are being
/// written, and folders between removal and return, are so left alone until they rest. A model with a problem keeps the
/// settings that it had: those that can't be read would be the defaults, which could send its requests to another version.
/// One that has gone is kept where it `stays`: a folder is removed too easily.
pub(super) fn settle(
    acted_on: &BTreeMap<String, Model>,
    previous: &BTreeMap<String, Model>,
    current: &BTreeMap<String, Model>,
    stays: impl Fn(&str) -> bool,
) -> BTreeMap<String, Model> {
    let names = acted_on.keys().chain(current.keys());
    let settled = |name: &String| {
        let (before, previous, current) = (acted_on.get(name), previous.get(name), current.get(name));
        let gone = || before.filter(|_| stays(name)).map(|_| Model { problem: Some(GONE.into()), ..Model::default() });
        let mut chosen = if previous == current { current.cloned().or_else(gone) } else { before.cloned() }?;
        if let (Some(_), Some(before)) = (&chosen.problem, before) {
            chosen.config = before.config.clone();
        }
        Some((name.clone(), chosen))
    };
    names.filter_map(settled).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files::{ModelPath, Roots};
    use crate::repository::Source;
    use proptest::prelude::*;

    /// A model whose state is told by a number; the folder that a fingerprint is taken of does not matter here.
    fn model(state: u8, problem: bool) -> Model {
        let path = ModelPath::new(format!("{state}.onnx").into(), Roots::default());
        let source = Source { path, ..Source::default() };
        let problem = problem.then(|| "unreadable".to_owned());
        Model { versions: BTreeMap::from([(1, source)]), problem, ..Model::default() }
    }

    fn models() -> impl Strategy<Value = BTreeMap<String, Model>> {
        let entry = ("[abc]", (0..3u8, prop::bool::weighted(0.2)).prop_map(|(state, problem)| model(state, problem)));
        prop::collection::btree_map(entry.0, entry.1, 0..4)
    }

    fn none() -> BTreeSet<Key> {
        BTreeSet::new()
    }

    proptest! {
        #[test]
        fn only_what_two_scans_agree_on_changes(acted_on in models(), previous in models(), current in models()) {
            let settled = settle(&acted_on, &previous, &current, |_| false);
            let kept = settle(&acted_on, &previous, &current, |_| true);
            for name in ["a", "b", "c"] {
                let agreed = previous.get(name) == current.get(name);
                let expected = if agreed { current.get(name) } else { acted_on.get(name) };
                prop_assert_eq!(settled.get(name), expected);
                let is_gone = expected.is_none() && acted_on.contains_key(name);
                if is_gone {
                    prop_assert!(kept[name].problem.as_ref().unwrap().contains("does not hold it any more"));
                } else {
                    prop_assert_eq!(kept.get(name), expected);
                }
            }
        }

        #[test]
        fn a_plan_that_is_carried_out_leaves_nothing_to_do(before in models(), now in models()) {
            let mut inventory = Inventory { models: before.clone(), ..Inventory::default() };
            let time = Instant::now();
            carry_out(&mut inventory, time);
            inventory.models = now.clone();
            carry_out(&mut inventory, time);
            prop_assert_eq!(plan(&inventory, &none(), time), Plan::default());
            let slot = |name: &String| inventory.slots.get(&(name.clone(), 1));
            for (name, model) in now.iter().filter(|(_, model)| model.problem.is_none()) {
                prop_assert_eq!(&slot(name).unwrap().attempted.source, &model.versions[&1]);
            }
            for (name, model) in now.iter().filter(|(_, model)| model.problem.is_some()) {
                // What is half read neither comes nor goes.
                let was = before.get(name).filter(|model| model.problem.is_none());
                let is = slot(name).map(|slot| &slot.attempted.source);
                prop_assert_eq!(is, was.map(|model| &model.versions[&1]), "{:?}", model.problem);
            }
        }
    }

    #[test]
    fn what_may_pass_is_tried_again_after_longer_and_longer_times() {
        let models = BTreeMap::from([("m".to_owned(), model(0, false))]);
        let mut inventory = Inventory { models, ..Inventory::default() };
        let mut now = Instant::now();
        carry_out(&mut inventory, now);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let slot = inventory.slots.get_mut(&("m".to_owned(), 1)).unwrap();
            let retry = Retry::after(slot.retry, now);
            slot.retry = Some(retry);
            assert_eq!(plan(&inventory, &none(), retry.at - Duration::from_nanos(1)), Plan::default());
            assert_eq!(plan(&inventory, &none(), retry.at).load.len(), 1);
            pauses.push((retry.at - now).as_secs());
            now = retry.at;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
    }

    /// Every load fails, which is an end like any other.
    fn carry_out(inventory: &mut Inventory, now: Instant) {
        let plan = plan(inventory, &none(), now);
        for (key, _) in plan.unload {
            assert!(inventory.slots.remove(&key).is_some());
        }
        for (key, wanted) in plan.load {
            inventory.slots.insert(key, Slot { failure: Some("it fails".into()), ..Slot::new(wanted) });
        }
    }
}
