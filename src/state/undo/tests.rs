use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::{
    error::Code,
    state::{ModelFacts, document},
};

fn facts(versions: &[u64]) -> ModelFacts {
    let versions: BTreeSet<u64> = versions.iter().copied().collect();
    let ready = versions.iter().map(|version| (*version, Ok(()))).collect();
    ModelFacts { versions: ready, on_disk: versions.clone(), loaded: versions, ..ModelFacts::default() }
}

/// The state after changes, of which the first has the revision 1.
fn after(changes: &[Change], facts: &ModelFacts) -> ModelState {
    (1..).zip(changes).fold(ModelState::default(), |state, (revision, change)| made(&state, change, facts, revision))
}

fn made(state: &ModelState, change: &Change, facts: &ModelFacts, revision: u64) -> ModelState {
    apply(state, change, facts, revision).unwrap_or_else(|refused| panic!("{change}: {refused}"))
}

fn apply(state: &ModelState, change: &Change, facts: &ModelFacts, revision: u64) -> Result<ModelState> {
    let record = Record {
        revision,
        time: String::new(),
        actor: String::new(),
        reason: String::new(),
        change: change.clone(),
        before: None,
        after: None,
        origin: None,
    };
    state.apply("m", change, facts, record).map(|applied| applied.state)
}

fn weights(pairs: &[(u64, f64)]) -> Change {
    Change::SetWeights(Weights::new(pairs.iter().copied().collect()).unwrap())
}

fn held(state: &ModelState) -> String {
    state.traffic.as_ref().map_or_else(|| "config".into(), ToString::to_string)
}

/// Traffic after these changes and one abort; empty: there is nothing to abort.
#[test]
fn abort_returns_to_the_start_of_the_rollout() {
    let facts = facts(&[1, 2, 3]);
    let alias = |version| Change::SetAlias { alias: "canary".into(), version };
    let steps = [weights(&[(2, 99.0), (3, 1.0)]), weights(&[(2, 75.0), (3, 25.0)])];
    for (changes, expected) in [
        (vec![], ""),
        (vec![alias(3)], "config"),
        (steps.to_vec(), "config"),
        ([&[weights(&[(2, 1.0)]), alias(3)], &steps[..]].concat(), "2=1 canary=3"),
        ([&[Change::Promote(2)], &steps[..]].concat(), "2=100 stable=2"),
        // All of a rollout is taken back, its last step too.
        ([&[weights(&[(2, 1.0)])], &steps[..], &[weights(&[(3, 1.0)])]].concat(), "2=1"),
        ([&[weights(&[(2, 1.0)])], &steps[..], &[Change::Promote(3)]].concat(), ""),
        ([&[Change::Promote(1)], &steps[..], &[Change::Rollback]].concat(), "1=100 stable=1"),
        ([&[Change::Promote(1)], &steps[..], &[Change::Rollback, Change::Rollback]].concat(), ""),
        ([&steps[..], &[Change::ResetTraffic]].concat(), ""),
        ([&steps[..], &[Change::Load(Some(1)), Change::Abort]].concat(), ""),
    ] {
        let state = after(&changes, &facts);
        let aborted = apply(&state, &Change::Abort, &facts, 99);
        match aborted {
            Ok(state) => assert_eq!(held(&state), expected, "{changes:?}"),
            Err(refused) => {
                assert_eq!((refused.code(), expected), (Code::FailedPrecondition, ""), "{changes:?}: {refused}");
                assert!(refused.message().contains("onnxd rollback m --to REVISION"), "{refused}");
            }
        }
    }
}

/// Each revision can be returned to from the last, and has the traffic that it had.
#[test]
fn rollback_reaches_every_revision_in_the_history() {
    let facts = facts(&[1, 2, 3]);
    let changes = [
        weights(&[(2, 1.0)]),
        weights(&[(2, 1.0), (3, 1.0)]),
        Change::Load(Some(3)),
        Change::Rollback,
        Change::Promote(3),
        weights(&[(2, 9.0), (3, 1.0)]),
        weights(&[(2, 9.0), (3, 1.0)]),
        Change::ResetTraffic,
        Change::Promote(1),
        Change::ForceUnload(Some(1)),
    ];
    let last = after(&changes, &facts);
    for revision in 0..=changes.len() {
        let then = after(&changes[..revision], &facts);
        let back = made(&last, &Change::RollbackTo(revision as u64), &facts, 50);
        assert_eq!((held(&back), back.promoted), (held(&then), then.promoted), "revision {revision}");
        let again = made(&back, &Change::RollbackTo(revision as u64), &facts, 51);
        assert_eq!(held(&again), held(&back), "twice is once");
    }
    assert!(made(&last, &Change::RollbackTo(9), &facts, 50).loaded[&1]);
    let refused = apply(&last, &Change::RollbackTo(50), &facts, 50).unwrap_err();
    assert!(refused.message().contains("no revision 50") && refused.message().contains("is at 49"), "{refused}");
}

/// A reset that gives nothing back is no step, so that going back past it is like so many rollbacks.
#[test]
fn ineffective_resets_are_no_undo_steps() {
    let facts = facts(&[1, 2]);
    let changes = [weights(&[(1, 1.0)]), Change::ResetTraffic, Change::ResetTraffic, weights(&[(2, 1.0)])];
    let state = after(&changes, &facts);
    let back = made(&state, &Change::RollbackTo(2), &facts, 5);
    assert_eq!((held(&back).as_str(), back.undo.len()), ("config", 2));
    let further = made(&back, &Change::Rollback, &facts, 6);
    assert_eq!((held(&further).as_str(), further.undo.len()), ("1=1", 1));
}

#[test]
fn revisions_before_the_history_are_refused() {
    let facts = facts(&[1, 2]);
    let changes: Vec<Change> = (1..=150).map(|weight| weights(&[(1, 1.0), (2, f64::from(weight))])).collect();
    let state = after(&changes, &facts);
    assert_eq!(held(&made(&state, &Change::RollbackTo(50), &facts, 151)), "1=1 2=50");
    let refused = apply(&state, &Change::RollbackTo(49), &facts, 151).unwrap_err();
    assert!(
        refused.message().contains("revision 49") && refused.message().contains("back to revision 50"),
        "{refused}"
    );
    // The first of so many steps is not known either.
    let refused = apply(&state, &Change::Abort, &facts, 151).unwrap_err();
    assert!(refused.message().contains("its beginning is not facts"), "{refused}");
}

/// A state that an older server wrote holds, and can be undone.
#[test]
fn state_format_1_is_read_and_undone() {
    let body = r#"{"revision":3,"models":{"m":{"revision":3,"traffic":{"weights":{"2":1.0},"aliases":{"stable":2}},
        "loaded":{"1":false},"undo":[null,{"weights":{"1":9.0,"2":1.0},"aliases":{}}],"history":[
        {"revision":1,"time":"t","actor":"a","reason":"","change":{"set_weights":{"1":9.0,"2":1.0}},
         "before":{"weights":{},"aliases":{}},"after":{"weights":{"1":9.0,"2":1.0},"aliases":{}}},
        {"revision":2,"time":"t","actor":"a","reason":"","change":{"unload":1},"before":null,"after":null},
        {"revision":3,"time":"t","actor":"a","reason":"","change":{"promote":2},
         "before":{"weights":{"1":9.0,"2":1.0},"aliases":{}},"after":{"weights":{"2":1.0},"aliases":{"stable":2}}}]}}}
"#;
    let head = format!(r#"{{"format":"onnxd-state","version":1,"sha256":"{}"}}"#, document::sha256(body));
    let desired = document::decode(format!("{head}\n{body}").as_bytes()).unwrap();
    let (state, facts) = (&desired.models["m"], facts(&[1, 2, 3]));
    assert_eq!((desired.revision, state.traffic_revision, held(state).as_str()), (3, 3, "2=1 stable=2"));
    let once = made(state, &Change::Rollback, &facts, 4);
    assert_eq!((held(&once).as_str(), once.loaded[&1]), ("1=9 2=1", true));
    let twice = made(&once, &Change::Rollback, &facts, 5);
    assert_eq!(held(&twice), "config");
    assert_eq!(held(&made(state, &Change::RollbackTo(0), &facts, 4)), "config");
    // The written state is read again.
    assert_eq!(document::decode(document::encode(&desired).unwrap().as_bytes()), Ok(desired));
}

/// Without any setting the highest version takes the requests; going back to that is going back to the version.
#[test]
fn rollback_to_the_highest_version_keeps_that_version() {
    let state = after(&[weights(&[(1, 1.0)])], &facts(&[1, 2, 3]));
    let back = |versions: &[u64]| apply(&state, &Change::Rollback, &facts(versions), 2).map(|state| held(&state));
    assert_eq!(back(&[1, 2, 3]).unwrap(), "config");
    assert_eq!(back(&[1, 2, 3, 4]).unwrap(), "3=100");
    let refused = back(&[1, 2]).unwrap_err();
    assert!(refused.message().contains("there is no version 3"), "{refused}");
    // One that a call has unloaded is loaded again, and answers once it is ready.
    let unloaded = made(&state, &Change::Unload(Some(3)), &facts(&[1, 2, 3]), 2);
    let without = ModelFacts { on_disk: BTreeSet::from([1, 2, 3]), ..facts(&[1, 2]) };
    let again = made(&unloaded, &Change::Rollback, &without, 3);
    assert_eq!((held(&again).as_str(), &again.loaded), ("config", &BTreeMap::from([(3, true)])));
}
