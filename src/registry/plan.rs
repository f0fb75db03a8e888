//! What is to be done: pure functions from what is wanted and what is there.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    config::ModelConfig,
    repository::{Model, Source},
    router::Version,
};

/// A version of a model.
pub(super) type Key = (String, u64);

/// What a version should be loaded from, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Desired {
    pub source: Source,
    /// Without aliases: they don't touch what is loaded.
    pub config: ModelConfig,
}

/// What is there of a version.
#[derive(Debug)]
pub(super) struct Slot {
    /// What the last load was asked for, however it ended: it is not tried again until something else is desired, or it is
    /// time to.
    pub attempted: Desired,
    pub serving: Option<Arc<Version>>,
    /// Why the last load failed.
    pub failure: Option<Arc<str>>,
    /// When it is tried again though nothing has changed: the cause may have passed by then.
    pub retry: Option<Retry>,
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
    pub(super) fn new(attempted: Desired) -> Self {
        Slot { attempted, serving: None, failure: None, retry: None }
    }

    /// Whether it is time to try again.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.retry.is_some_and(|retry| retry.at <= now)
    }

    fn is_new(&self) -> bool {
        self.serving.is_none() && self.failure.is_none()
    }
}

/// What to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub load: Vec<(Key, Desired)>,
    pub unload: Vec<Key>,
}

/// The difference between what the models' folders hold and what is there. Of a model with a problem, which may be half read,
/// nothing changes.
pub(super) fn plan(models: &BTreeMap<String, Model>, slots: &BTreeMap<Key, Slot>, now: Instant) -> Plan {
    let mut plan = Plan::default();
    for (name, model) in models.iter().filter(|(_, model)| model.problem.is_none()) {
        let config = model.config.without_aliases();
        for (version, source) in &model.versions {
            let key = (name.clone(), *version);
            let desired = Desired { source: source.clone(), config: config.clone() };
            if slots.get(&key).is_none_or(|slot| slot.is_new() || slot.attempted != desired || slot.is_due(now)) {
                plan.load.push((key, desired));
            }
        }
    }
    let is_wanted = |(name, version): &Key| match models.get(name) {
        Some(model) => model.problem.is_some() || model.versions.contains_key(version),
        None => false,
    };
    plan.unload = slots.keys().filter(|key| !is_wanted(key)).cloned().collect();
    plan
}

/// The models to act on: of each, what two scans in a row agree on, else what was acted on before. Files that are being
/// written, and folders between removal and return, are so left alone until they rest. A model with a problem keeps the
/// settings that it had: those that can't be read would be the defaults, which could send its requests to another version.
pub(super) fn settle(
    acted_on: &BTreeMap<String, Model>,
    previous: &BTreeMap<String, Model>,
    current: &BTreeMap<String, Model>,
) -> BTreeMap<String, Model> {
    let names = acted_on.keys().chain(current.keys());
    let settled = |name: &String| {
        let (before, previous, current) = (acted_on.get(name), previous.get(name), current.get(name));
        let mut chosen = if previous == current { current } else { before }?.clone();
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
    use proptest::prelude::*;
    use std::path::PathBuf;

    /// A model whose state is told by a number; the folder that a fingerprint is taken of does not matter here.
    fn model(state: u8, problem: bool) -> Model {
        let source = Source { path: PathBuf::from(format!("{state}.onnx")), ..Source::default() };
        let problem = problem.then(|| "unreadable".to_owned());
        Model { versions: BTreeMap::from([(1, source)]), problem, ..Model::default() }
    }

    fn models() -> impl Strategy<Value = BTreeMap<String, Model>> {
        let entry = ("[abc]", (0..3u8, prop::bool::weighted(0.2)).prop_map(|(state, problem)| model(state, problem)));
        prop::collection::btree_map(entry.0, entry.1, 0..4)
    }

    proptest! {
        #[test]
        fn only_what_two_scans_agree_on_changes(acted_on in models(), previous in models(), current in models()) {
            let settled = settle(&acted_on, &previous, &current);
            for name in ["a", "b", "c"] {
                let agreed = previous.get(name) == current.get(name);
                let expected = if agreed { current.get(name) } else { acted_on.get(name) };
                prop_assert_eq!(settled.get(name), expected);
            }
        }

        #[test]
        fn a_plan_that_is_carried_out_leaves_nothing_to_do(before in models(), now in models()) {
            let mut slots = BTreeMap::new();
            let time = Instant::now();
            carry_out(plan(&before, &slots, time), &mut slots);
            carry_out(plan(&now, &slots, time), &mut slots);
            prop_assert_eq!(plan(&now, &slots, time), Plan::default());
            for (name, model) in now.iter().filter(|(_, model)| model.problem.is_none()) {
                prop_assert_eq!(&slots[&(name.clone(), 1)].attempted.source, &model.versions[&1]);
            }
            for (name, model) in now.iter().filter(|(_, model)| model.problem.is_some()) {
                // What is half read neither comes nor goes.
                let was = before.get(name).filter(|model| model.problem.is_none());
                let is = slots.get(&(name.clone(), 1)).map(|slot| &slot.attempted.source);
                prop_assert_eq!(is, was.map(|model| &model.versions[&1]), "{:?}", model.problem);
            }
        }
    }

    #[test]
    fn what_may_pass_is_tried_again_after_longer_and_longer_times() {
        let models = BTreeMap::from([("m".to_owned(), model(0, false))]);
        let mut slots = BTreeMap::new();
        let mut now = Instant::now();
        carry_out(plan(&models, &slots, now), &mut slots);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let slot = slots.get_mut(&("m".to_owned(), 1)).unwrap();
            let retry = Retry::after(slot.retry, now);
            slot.retry = Some(retry);
            assert_eq!(plan(&models, &slots, retry.at - Duration::from_nanos(1)), Plan::default());
            assert_eq!(plan(&models, &slots, retry.at).load.len(), 1);
            pauses.push((retry.at - now).as_secs());
            now = retry.at;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
    }

    /// Every load fails, which is an end like any other.
    fn carry_out(plan: Plan, slots: &mut BTreeMap<Key, Slot>) {
        for key in plan.unload {
            assert!(slots.remove(&key).is_some());
        }
        for (key, desired) in plan.load {
            slots.insert(key, Slot { failure: Some("it fails".into()), ..Slot::new(desired) });
        }
    }
}
