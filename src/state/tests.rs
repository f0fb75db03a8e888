//! Promises of changes and of the store, under random changes, crashes and damage.

use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

use super::{Change, Desired, ModelFacts, ModelState, Record, Store, shares};
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
    fn whatever_is_asked_for_the_state_is_right(steps in prop::collection::vec((change(), facts()), 0..40)) {
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
    fn shares_are_those_of_the_weights(weights in prop::collection::btree_map(1..6u64, weight(), 1..5), facts in facts()) {
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
fn what_is_refused_says_why() {
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
fn the_last_versions_that_are_gone_are_remembered() {
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
fn the_models_that_were_changed_last_are_remembered() {
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
fn changed(desired: &Desired) -> Desired {
    let mut next = desired.clone();
    next.revision += 1;
    let facts = ModelFacts { versions: BTreeMap::from([(1, Ok(())), (2, Ok(()))]), ..ModelFacts::default() };
    let state = next.models.entry("m".into()).or_default();
    let change = Change::Promote(1 + next.revision % 2);
    *state = apply(state, &change, &facts, next.revision).unwrap();
    next
}

/// A folder that has seen three changes, with the states after the second and the third.
fn folder() -> (TempDir, PathBuf, [Desired; 2]) {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("deep/state");
    let (mut store, mut desired) = Store::open(path.clone()).unwrap();
    assert!(!path.exists());
    let mut states = Vec::new();
    for _ in 0..3 {
        desired = changed(&desired);
        assert_eq!(store.save(&desired).unwrap(), None);
        states.push(desired.clone());
    }
    (parent, path, [states[1].clone(), states[2].clone()])
}

fn audited(path: &Path) -> Vec<u64> {
    let lines = fs::read_to_string(path.join("audit.jsonl")).unwrap();
    let revision = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["revision"].as_u64().unwrap();
    lines.lines().map(revision).collect()
}

#[test]
fn what_is_saved_is_there_and_one_server_writes() {
    let (_parent, path, [_, last]) = folder();
    let (mut store, found) = Store::open(path.clone()).unwrap();
    assert_eq!(found, last);
    assert_eq!(audited(&path), [1, 2, 3]);
    // A second server reads and does not write.
    let (mut second, seen) = Store::open(path.clone()).unwrap();
    assert_eq!(seen, last);
    let refused = second.save(&changed(&seen)).unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(
        refused.message().contains(path.to_str().unwrap()) && refused.message().contains("in use by another server")
    );
    assert!(second.catch_up().is_err());
    // It takes over when the first has gone, with what that has changed.
    let next = changed(&last);
    store.save(&next).unwrap();
    drop(store);
    assert_eq!(second.catch_up().unwrap(), Some(next.clone()));
    assert_eq!(second.catch_up().unwrap(), None);
    second.save(&changed(&next)).unwrap();
    assert_eq!(audited(&path), [1, 2, 3, 4, 5]);
}

/// A log that has become large is renamed, whole, and nothing is written twice.
#[test]
fn a_large_audit_log_is_put_aside() {
    let (_parent, path, [_, last]) = folder();
    let (mut store, _) = Store::open(path.clone()).unwrap();
    let file = fs::File::options().write(true).open(path.join("audit.jsonl")).unwrap();
    file.set_len((64 << 20) + 1).unwrap();
    let next = changed(&last);
    assert_eq!(store.save(&next).unwrap(), None);
    assert_eq!(fs::metadata(path.join("audit-3.jsonl")).unwrap().len(), (64 << 20) + 1);
    assert_eq!(audited(&path), [4]);
    // As a crash between the two leaves it.
    fs::remove_file(path.join("audit.jsonl")).unwrap();
    drop(store);
    assert_eq!(Store::open(path.clone()).unwrap().1, next);
    assert_eq!(audited(&path), [4]);
}

#[test]
fn who_may_not_write_follows_and_takes_over() {
    let (_parent, path, [_, last]) = folder();
    let (mut store, _) = Store::open(path.clone()).unwrap();
    assert_eq!(store.follow(), None);
    let (mut second, _) = Store::open(path.clone()).unwrap();
    assert_eq!(second.follow(), None);
    let next = changed(&last);
    store.save(&next).unwrap();
    assert_eq!(second.follow(), Some(next.clone()));
    assert_eq!(second.follow(), None);
    let refused = second.save(&changed(&next)).unwrap_err();
    assert!(refused.message().contains(&format!("(process {} on ", std::process::id())), "{refused}");
    let after = changed(&next);
    store.save(&after).unwrap();
    drop(store);
    assert_eq!(second.follow(), Some(after.clone()));
    second.save(&changed(&after)).unwrap();
    assert_eq!(audited(&path), [1, 2, 3, 4, 5, 6]);
}

/// The folder is made before it is locked.
#[test]
fn who_follows_does_not_come_before_a_first_change() {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("state");
    let (mut first, desired) = Store::open(path.clone()).unwrap();
    let (mut second, _) = Store::open(path.clone()).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(second.follow(), None);
    let next = changed(&desired);
    first.save(&next).unwrap();
    assert_eq!(second.follow(), Some(next));
}

/// A state that another server wrote during a change is not overwritten by the next try.
#[test]
fn what_comes_between_is_taken_over_by_the_next_change() {
    let (_other, theirs, [_, last]) = folder();
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("state");
    let (mut store, _) = Store::open(path.clone()).unwrap();
    assert_eq!(store.catch_up().unwrap(), None);
    fs::rename(&theirs, &path).unwrap();
    assert_eq!(store.save(&changed(&Desired::default())).unwrap_err().code(), Code::Unavailable);
    assert_eq!(store.catch_up().unwrap(), Some(last));
}

/// Where the folder goes, the known state is not lost.
#[test]
fn a_folder_that_is_removed_is_made_again() {
    let (_parent, path, [_, last]) = folder();
    let (mut store, _) = Store::open(path.clone()).unwrap();
    fs::remove_dir_all(&path).unwrap();
    assert_eq!(store.catch_up().unwrap(), None);
    let next = changed(&last);
    store.save(&next).unwrap();
    drop(store);
    assert_eq!(Store::open(path).unwrap().1, next);
}

#[test]
fn a_file_that_is_cut_or_changed_anywhere_is_set_aside() {
    let (_parent, path, [before, last]) = folder();
    let current = path.join("state.json");
    let good = fs::read(&current).unwrap();
    let aside = || {
        let names = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("state.damaged-")).collect::<Vec<_>>()
    };
    let cut = (0..good.len()).map(|length| good[..length].to_vec());
    let flipped = (0..good.len()).map(|at| {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        bytes
    });
    for (number, damaged) in cut.chain(flipped).enumerate() {
        // A version of the format that is newer can come of a bit that flips.
        fs::write(&current, &damaged).unwrap();
        let Ok((store, found)) = Store::open(path.clone()) else {
            assert!(String::from_utf8_lossy(&damaged).contains("\"version\":"), "{number}");
            continue;
        };
        drop(store);
        assert_eq!(found.models, before.models, "{number}");
        assert_eq!(found.revision, last.revision, "the number of the change that was lost is not given again");
        let names = aside();
        assert_eq!(names.len(), 1, "{number}: {names:?}");
        assert_eq!(fs::read(path.join(&names[0])).unwrap(), damaged);
        fs::remove_file(path.join(&names[0])).unwrap();
    }
    // Both: the configurations hold.
    fs::write(&current, "x").unwrap();
    fs::write(path.join("state.previous.json"), "x").unwrap();
    let (_, found) = Store::open(path.clone()).unwrap();
    assert_eq!((found.models.len(), found.revision), (0, 3));
}

#[test]
fn what_a_newer_server_wrote_is_left_alone() {
    let (_parent, path, _) = folder();
    let current = path.join("state.json");
    let newer = fs::read_to_string(&current).unwrap().replace("\"version\":2", "\"version\":3");
    fs::write(&current, &newer).unwrap();
    let refused = Store::open(path.clone()).unwrap_err();
    assert!(
        refused.contains(path.to_str().unwrap()) && refused.contains("format 3; this one reads up to 2"),
        "{refused}"
    );
    assert_eq!(fs::read_to_string(&current).unwrap(), newer);
}

/// A crash at any step of a change loses at most the change in flight.
#[test]
fn a_crash_between_the_steps_loses_nothing() {
    let (_parent, path, [before, last]) = folder();
    let text = fs::read_to_string(path.join("state.json")).unwrap();
    // Files that were being written.
    fs::write(path.join("state.json.new"), &text[..text.len() / 2]).unwrap();
    fs::write(path.join("state.previous.json.new"), "").unwrap();
    let (store, found) = Store::open(path.clone()).unwrap();
    assert_eq!(found, last);
    drop(store);
    // The state was replaced, and the audit log does not say so yet, or in part.
    let audit = fs::read_to_string(path.join("audit.jsonl")).unwrap();
    let two: usize = audit.lines().take(2).map(|line| line.len() + 1).sum();
    for length in [0, 1, two - 1, two, two + 7, audit.len() - 1] {
        fs::write(path.join("audit.jsonl"), &audit[..length]).unwrap();
        let (store, found) = Store::open(path.clone()).unwrap();
        assert_eq!(found, last);
        drop(store);
        assert_eq!(fs::read_to_string(path.join("audit.jsonl")).unwrap(), audit, "cut at {length}");
    }
    // The file that is replaced is missing, though it should not.
    fs::remove_file(path.join("state.json")).unwrap();
    assert_eq!(Store::open(path).unwrap().1.models, before.models);
}

/// The state before the last change is what this server wrote, though the file has been changed by another hand meanwhile.
#[test]
fn the_state_before_is_the_one_that_was_written() {
    let (_parent, path, [_, last]) = folder();
    let (mut store, _) = Store::open(path.clone()).unwrap();
    let previous = || fs::read_to_string(path.join("state.previous.json")).unwrap();
    let text = fs::read_to_string(path.join("state.json")).unwrap();
    store.save(&changed(&last)).unwrap();
    assert_eq!(previous(), text);
    let text = fs::read_to_string(path.join("state.json")).unwrap();
    fs::write(path.join("state.json"), "x").unwrap();
    store.save(&changed(&changed(&last))).unwrap();
    assert_eq!(previous(), text);
}

#[test]
fn where_nothing_can_be_written_nothing_changes() {
    let (_parent, path, [_, last]) = folder();
    let (mut store, _) = Store::open(path.clone()).unwrap();
    let text = fs::read_to_string(path.join("state.json")).unwrap();
    for (full, saves) in [("state.json.new", false), ("state.previous.json.new", false), ("audit.jsonl", true)] {
        let blocked = path.join(full);
        // By another hand: the file is no longer taken for what was written, and that is written again.
        fs::write(path.join("state.json"), &text).unwrap();
        let kept = fs::read(&blocked).ok();
        let _ = fs::remove_file(&blocked);
        std::os::unix::fs::symlink("/dev/full", &blocked).unwrap();
        let saved = store.save(&changed(&last));
        fs::remove_file(&blocked).unwrap();
        if let Some(kept) = kept {
            fs::write(&blocked, kept).unwrap();
        }
        if saves {
            // The change is durable; what the log lacks comes later.
            let problem = saved.unwrap().unwrap();
            assert!(problem.contains("audit.jsonl can't be written") && problem.contains("added later"), "{problem}");
            continue;
        }
        let refused = saved.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable);
        let says = [path.to_str().unwrap(), "can't be written", "No space left on device"];
        assert!(says.iter().all(|part| refused.message().contains(part)), "{refused}");
        assert_eq!(fs::read_to_string(path.join("state.json")).unwrap(), text);
    }
    let next = changed(&changed(&last));
    store.save(&next).unwrap();
    assert_eq!(audited(&path), [1, 2, 3, 4, 5]);
    // Folders that can't be made.
    for place in ["/proc/onnxd/state", "/dev/null/state"] {
        let (mut store, desired) = Store::open(place.into()).unwrap();
        let refused = store.save(&changed(&desired)).unwrap_err();
        assert!(refused.message().contains(&format!("the state folder {place} can't be made")), "{refused}");
    }
}
