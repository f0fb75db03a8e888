//! Promises of changes, under random changes.

use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Change, Desired, ModelFacts, ModelState, Record, shares};
use crate::{
    error::{Code, Result},
    traffic::{Traffic, Weights},
};

fn record(revision: u64) -> Record {
    let time = "2026-01-01T00:00:00.000Z".to_owned();
    let (actor, reason) = ("ann".to_owned(), "because".to_owned());
    Record { revision, time, actor, reason, change: Change::Rollback, before: None, after: None, origin: None }
}

/// The state after a change of the model `m`.
fn apply(state: &ModelState, change: &Change, facts: &ModelFacts, revision: u64) -> Result<ModelState> {
    state.apply("m", change, facts, record(revision)).map(|applied| applied.state)
}

fn weight() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), 0.0..100.0, Just(1e-300), Just(f64::MAX / 8.0), 1.0..4.0]
}

fn change() -> impl Strategy<Value = Change> {
    let version = || 1..6u64;
    let weights = prop::collection::btree_map(version(), weight(), 0..4);
    prop_oneof![
        1 => prop::option::of(version()).prop_map(Change::Load),
        1 => prop::option::of(version()).prop_map(Change::Unload),
        1 => prop::option::of(version()).prop_map(Change::Reload),
        4 => weights.prop_filter_map("no weights", |weights| Weights::new(weights).ok().map(Change::SetWeights)),
        4 => (version(), version(), prop_oneof![0.0..120.0, Just(f64::NAN), Just(100.0), Just(-1.0)])
            .prop_map(|(from, to, points)| Change::Shift { from, to, points }),
        3 => ("(stable|canary|-)", version()).prop_map(|(alias, version)| Change::SetAlias { alias, version }),
        1 => "(stable|canary)".prop_map(Change::DropAlias),
        2 => version().prop_map(Change::Promote),
        3 => Just(Change::Rollback),
        1 => (0..40u64).prop_map(Change::RollbackTo),
        1 => Just(Change::Abort),
        1 => Just(Change::ResetTraffic),
        1 => prop::option::of(version()).prop_map(Change::ForceUnload),
    ]
}

fn facts() -> impl Strategy<Value = ModelFacts> {
    let versions = prop::collection::btree_map(1..6u64, prop::option::weighted(0.3, Just("it is being loaded")), 0..6);
    versions.prop_map(|versions| ModelFacts {
        configured: Traffic::default(),
        on_disk: versions.keys().copied().collect(),
        loaded: versions.keys().copied().collect(),
        versions: versions
            .into_iter()
            .map(|(version, why)| (version, why.map_or(Ok(()), |why| Err(why.into()))))
            .collect(),
    })
}

fn ready(facts: &ModelFacts) -> BTreeSet<u64> {
    facts.versions.iter().filter(|(_, ready)| ready.is_ok()).map(|(version, _)| *version).collect()
}

proptest! {
    #[test]
    fn state_stays_valid_under_random_changes(steps in prop::collection::vec((change(), facts()), 0..40)) {
        let mut state = ModelState::default();
        for (revision, (change, facts)) in (1..).zip(steps) {
            let before = state.clone();
            let Ok(after) = apply(&state, &change, &facts, revision) else {
                prop_assert_eq!(&before, &state);
                continue;
            };
            prop_assert_eq!(after.revision, revision);
            let record = after.history.last().unwrap();
            prop_assert_eq!(&record.change, &change);
            prop_assert_eq!(after.history.len(), before.history.len() + 1);
            let traffic = after.traffic_or(&facts.configured).clone();
            prop_assert!(Weights::new(traffic.weights.clone().into()).is_ok());
            let record = after.history.last().unwrap().clone();
            match &change {
                Change::Load(_) | Change::Unload(_) | Change::Reload(_) => {
                    prop_assert_eq!((&after.traffic, &after.undo), (&before.traffic, &before.undo));
                }
                Change::ForceUnload(_) => prop_assert_eq!(&after.traffic, &before.traffic),
                Change::Rollback | Change::Abort => prop_assert!(after.undo.len() < before.undo.len()),
                Change::RollbackTo(_) => {}
                Change::ResetTraffic => prop_assert!(after.traffic.is_none()),
                _ => {
                    // A rollback undoes exactly this, where it was one.
                    if after.traffic == before.traffic {
                        prop_assert_eq!(&after.undo, &before.undo);
                    } else if let Ok(undone) = apply(&after, &Change::Rollback, &facts, revision + 1) {
                        prop_assert_eq!((&undone.traffic, &undone.undo), (&before.traffic, &before.undo));
                        prop_assert_eq!(undone.promoted, before.promoted);
                    }
                }
            }
            // No way back takes requests from every version that is ready, where there was one.
            if matches!(change, Change::Rollback | Change::RollbackTo(_) | Change::Abort | Change::ResetTraffic) {
                let was = shares(before.traffic_or(&facts.configured), &ready(&facts));
                prop_assert!(was.is_empty() || !shares(&traffic, &ready(&facts)).is_empty());
                prop_assert_eq!(record.after.as_ref(), Some(&traffic));
            }
            prop_assert_eq!(after.traffic.is_none(), after.traffic_revision == 0);
            if let Change::Shift { to, points, .. } = change {
                let total: f64 = traffic.weights.iter().map(|(_, weight)| weight).sum();
                prop_assert!((total - 100.0).abs() < 1e-6, "{}", total);
                prop_assert!(traffic.weights.of(to) > points - 1e-6);
            }
            state = after;
        }
    }

    #[test]
    fn shares_follow_the_weights_of_ready_versions(weights in prop::collection::btree_map(1..6u64, weight(), 1..5), facts in facts()) {
        let Ok(weights) = Weights::new(weights) else { return Ok(()) };
        let ready = ready(&facts);
        let shares = shares(&Traffic { weights: weights.clone(), ..Traffic::default() }, &ready);
        let total: f64 = shares.values().sum();
        prop_assert!(shares.is_empty() || (total - 1.0).abs() < 1e-9, "{:?}", shares);
        for (version, weight) in weights.iter() {
            prop_assert_eq!(shares.contains_key(&version), weight > 0.0 && ready.contains(&version));
        }
    }
}

#[test]
fn refused_change_reports_the_cause() {
    let versions = BTreeMap::from([(1, Ok(())), (2, Ok(())), (3, Err("it is being loaded".to_owned()))]);
    let on_disk = BTreeSet::from([1, 2, 3]);
    let facts = ModelFacts { on_disk: on_disk.clone(), loaded: on_disk, versions, ..ModelFacts::default() };
    let weights = |pairs: &[(u64, f64)]| Change::SetWeights(Weights::new(pairs.iter().copied().collect()).unwrap());
    let split = apply(&ModelState::default(), &weights(&[(1, 3.0), (2, 1.0)]), &facts, 1).unwrap();
    let shift = |from, to, points| Change::Shift { from, to, points };
    let alias = |alias: &str, version| Change::SetAlias { alias: alias.into(), version };
    for (change, code, says) in [
        (Change::Promote(9), Code::NotFound, "model 'm' has no version 9; its versions are: 1, 2, 3"),
        (
            Change::Promote(3),
            Code::FailedPrecondition,
            "version 3 is not ready, it can't be promoted: it is being loaded",
        ),
        (weights(&[(1, 9.0), (3, 1.0)]), Code::FailedPrecondition, "version 3 is not ready, it can't get the weight 1"),
        (shift(1, 3, 5.0), Code::FailedPrecondition, "version 3 is not ready, no points can be shifted to it"),
        (
            shift(2, 1, 30.0),
            Code::FailedPrecondition,
            "30 points can't be shifted from version 2, which has 25 of 100; the versions have 1=75 2=25",
        ),
        (shift(3, 1, 1.0), Code::FailedPrecondition, "version 3, which has 0 of 100"),
        (shift(9, 1, 1.0), Code::NotFound, "no version 9"),
        (shift(1, 1, 1.0), Code::InvalidArgument, "from one version to another"),
        (shift(1, 2, f64::NAN), Code::InvalidArgument, "points must be a number above 0 and at most 100, got NaN"),
        (alias("no name", 1), Code::InvalidArgument, "an alias is"),
        (alias("canary", 3), Code::FailedPrecondition, "it can't be 'canary'"),
        (Change::DropAlias("canary".into()), Code::NotFound, "model 'm' has no alias 'canary'; its aliases are: none"),
        (Change::Load(Some(9)), Code::NotFound, "no version 9"),
        (weights(&[(1, 9.0), (9, 0.0)]), Code::NotFound, "no version 9"),
        (
            Change::SetWeights(Weights::new((1..=65).map(|version| (version, 1.0)).collect()).unwrap()),
            Code::InvalidArgument,
            "model 'm': a model may have 64 weights, got 65",
        ),
        (Change::Unload(Some(9)), Code::NotFound, "no version 9"),
    ] {
        let refused = apply(&split, &change, &facts, 2).unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().contains(says), "{refused}");
    }
    let nothing = apply(&ModelState::default(), &Change::Rollback, &facts, 1).unwrap_err();
    assert!(nothing.message().contains("no change of its traffic to take back"), "{nothing}");
    let gone = ModelFacts { versions: BTreeMap::from([(1, Err("it failed".to_owned()))]), ..facts };
    let undone = apply(&split, &Change::Rollback, &gone, 2).unwrap_err();
    assert!(undone.message().contains("would reach no version that is ready"), "{undone}");
}

/// Wishes for versions without files are kept, up to a bound.
#[test]
fn recently_deleted_versions_are_remembered() {
    let facts = |version: u64| ModelFacts {
        versions: BTreeMap::from([(version, Ok(()))]),
        on_disk: BTreeSet::from([version]),
        loaded: BTreeSet::from([version]),
        ..ModelFacts::default()
    };
    let mut state = ModelState::default();
    for version in 1..=1000 {
        let change = if version % 2 == 0 { Change::Load(Some(version)) } else { Change::ForceUnload(Some(version)) };
        state = apply(&state, &change, &facts(version), version).unwrap();
    }
    let kept: Vec<u64> = state.loaded.keys().copied().collect();
    assert_eq!(kept, (900..=1000).collect::<Vec<_>>());
    assert_eq!((state.history.len(), state.loaded[&901]), (100, false));
}

#[test]
fn recently_changed_models_are_remembered() {
    let mut desired = Desired::default();
    for revision in 1..=300 {
        desired.models.insert(format!("m{revision}"), ModelState { revision, ..ModelState::default() });
    }
    assert!(desired.forget(|_| true).is_empty());
    // 299 are gone.
    let forgotten = desired.forget(|name| name == "m7");
    assert_eq!(forgotten.len(), 43);
    assert!(desired.models.len() == 257 && desired.models.contains_key("m7") && !desired.models.contains_key("m44"));
    assert!(desired.models.contains_key("m45"));
}

/// A state with one change more than before.
pub(super) fn changed(desired: &Desired) -> Arc<Desired> {
    let mut next = desired.clone();
    next.revision += 1;
    let facts = ModelFacts { versions: BTreeMap::from([(1, Ok(())), (2, Ok(()))]), ..ModelFacts::default() };
    let state = next.models.entry("m".into()).or_default();
    let change = Change::Promote(1 + next.revision % 2);
    *state = apply(state, &change, &facts, next.revision).unwrap();
    Arc::new(next)
}
