//! Undo: traffic becomes what it was, whatever config.toml says by then.

use serde_json::{Value, json};
use std::fs;
use tempfile::TempDir;

use super::{answering, call, change, edit, model, post, repository, save_version};
use crate::support::server::{Server, eventually};

const A: &str = "[weights]\n1 = 100";
const C: &str = "[weights]\n3 = 100";
const B: &str = r#"{"weights": {"2": 1}}"#;

/// The weights and aliases of `add`.
async fn traffic(server: &Server) -> Value {
    model(server).await["traffic"].clone()
}

fn weights(weights: Value) -> Value {
    json!({"weights": weights, "aliases": {}})
}

#[tokio::test(flavor = "multi_thread")]
async fn rollback_returns_to_the_traffic_before_not_to_an_edited_configuration() {
    let (repository, state) = (repository(), TempDir::new().unwrap());
    let root = repository.path();
    let start = || Server::start_with(root, &["--state-dir", state.path().to_str().unwrap()]);
    super::configure(root, A);
    let server = start();
    assert_eq!(answering(&server).await, "1");
    change(&server, "/models/add/weights", B).await;
    edit(&server, root, C).await;
    assert_eq!(answering(&server).await, "2", "what an admin call has set holds");
    let undone = change(&server, "/models/add/rollback", "").await;
    assert_eq!(undone["record"]["after"], weights(json!({"1": 100.0})));
    assert_eq!(answering(&server).await, "1");
    // An undo of the undo finds nothing, and changes nothing.
    assert_eq!(post(&server, "/models/add/rollback", "").await.status, 409);
    // It stays so, whatever happens to the server and to the file.
    server.signal("KILL");
    drop(server);
    let server = start();
    assert_eq!(answering(&server).await, "1");
    edit(&server, root, "").await;
    assert_eq!((answering(&server).await.as_str(), traffic(&server).await), ("1", weights(json!({"1": 100.0}))));
}

/// The file is edited while no server runs, which was killed before.
#[tokio::test(flavor = "multi_thread")]
async fn rollback_returns_to_the_traffic_before_after_kill_9() {
    let (repository, state) = (repository(), TempDir::new().unwrap());
    let root = repository.path();
    let start = || Server::start_with(root, &["--state-dir", state.path().to_str().unwrap()]);
    super::configure(root, A);
    let server = start();
    change(&server, "/models/add/weights", B).await;
    change(&server, "/models/add/promote", r#"{"version": 3}"#).await;
    server.signal("KILL");
    drop(server);
    super::configure(root, C);
    let server = start();
    for expected in ["2", "1"] {
        change(&server, "/models/add/rollback", "").await;
        assert_eq!(answering(&server).await, expected);
    }
}

/// Where the configuration still says what it said, it decides again.
#[tokio::test(flavor = "multi_thread")]
async fn rollback_of_the_first_change_gives_traffic_back_to_an_unchanged_configuration() {
    let repository = repository();
    super::configure(repository.path(), A);
    let server = Server::start(repository.path());
    change(&server, "/models/add/weights", B).await;
    let undone = change(&server, "/models/add/rollback", "").await;
    assert_eq!(undone["model"]["decided_by_admin"], false);
    edit(&server, repository.path(), C).await;
    assert_eq!(answering(&server).await, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn rollback_of_an_alias_change_returns_to_the_traffic_before() {
    let repository = repository();
    super::configure(repository.path(), "[weights]\n1 = 100\n[aliases]\ncanary = 2");
    let server = Server::start(repository.path());
    let set = call(server.admin, http::Method::PUT, "/models/add/aliases/canary", r#"{"version": 3}"#).await;
    assert_eq!(set.status, 200, "{set:?}");
    edit(&server, repository.path(), C).await;
    change(&server, "/models/add/rollback", "").await;
    assert_eq!(traffic(&server).await, json!({"weights": {"1": 100.0}, "aliases": {"canary": 2}}));
}

/// Without any setting the highest version takes the requests. A version that has come since was not that.
#[tokio::test(flavor = "multi_thread")]
async fn rollback_returns_to_the_version_that_answered_not_to_a_newer_one() {
    let repository = repository();
    let server = Server::start(repository.path());
    assert_eq!(answering(&server).await, "3");
    change(&server, "/models/add/weights", B).await;
    change(&server, "/models/add/rollback", "").await;
    assert_eq!((answering(&server).await.as_str(), traffic(&server).await), ("3", weights(json!({}))));
    change(&server, "/models/add/weights", B).await;
    save_version(repository.path(), 5);
    eventually("version 5 is ready", async || model(&server).await["versions"][4]["state"] == "READY").await;
    let undone = change(&server, "/models/add/rollback", "").await;
    assert_eq!(answering(&server).await, "3");
    let warnings = undone["warnings"].to_string();
    assert!(warnings.contains("version 3") && warnings.contains("onnxd traffic reset add"), "{warnings}");
}

/// Loads and unloads that move no traffic are no changes of it; a version that traffic returns to is loaded again.
#[tokio::test(flavor = "multi_thread")]
async fn rollback_restores_traffic_despite_later_loads() {
    let repository = repository();
    super::configure(repository.path(), A);
    let server = Server::start(repository.path());
    change(&server, "/models/add/weights", r#"{"weights": {"1": 95, "3": 5}}"#).await;
    change(&server, "/models/add/promote", r#"{"version": 3}"#).await;
    change(&server, "/models/add/versions/2/unload", "").await;
    change(&server, "/models/add/versions/1/unload", "").await;
    change(&server, "/models/add/versions/2/load", "").await;
    change(&server, "/models/add/rollback", "").await;
    assert_eq!(traffic(&server).await, weights(json!({"1": 95.0, "3": 5.0})));
    eventually("version 1 is loaded again", async || model(&server).await["versions"][0]["share"] == 0.95).await;
}

/// A forced unload moves requests too: a rollback loads the version again.
#[tokio::test(flavor = "multi_thread")]
async fn rollback_of_a_forced_unload_loads_the_version_again() {
    let repository = repository();
    let server = Server::start(repository.path());
    let unloaded = change(&server, "/models/add/versions/3/unload", r#"{"force": true}"#).await;
    assert_eq!(unloaded["record"]["change"], "unload version 3 by force");
    assert_eq!(answering(&server).await, "2");
    change(&server, "/models/add/rollback", "").await;
    eventually("version 3 answers again", async || answering(&server).await == "3").await;
    assert_eq!(traffic(&server).await, weights(json!({})));
}

#[tokio::test(flavor = "multi_thread")]
async fn rollback_to_a_revision_and_abort_go_back_any_number_of_steps() {
    let (repository, state) = (repository(), TempDir::new().unwrap());
    super::configure(repository.path(), "[aliases]\nstable = 2");
    let start = || Server::start_with(repository.path(), &["--state-dir", state.path().to_str().unwrap()]);
    let mut server = start();
    let before = traffic(&server).await;
    let shift = async |server: &Server, points: f64| {
        change(server, "/models/add/shift", format!(r#"{{"from": 2, "to": 3, "points": {points}}}"#)).await;
    };
    // Revisions 1 to 3: a canary gets 1, 5 and 25 percent.
    for points in [1.0, 4.0, 20.0] {
        shift(&server, points).await;
    }
    // 4: back by one call, to what config.toml says, which it decides again.
    let aborted = change(&server, "/models/add/abort", r#"{"actor": "ann", "expected_revision": 3}"#).await;
    assert_eq!((&aborted["record"]["kind"], &aborted["model"]["traffic"]), (&json!("abort"), &before));
    assert_eq!(aborted["model"]["source"], "config.toml");
    let nothing = post(&server, "/models/add/abort", "").await;
    assert_eq!(nothing.status, 409, "{nothing:?}");
    assert!(nothing.error().contains("onnxd history add"), "{nothing:?}");
    // 5: forward to what an abort has left, which a rollback (6) takes back.
    change(&server, "/models/add/rollback", r#"{"to_revision": 2}"#).await;
    assert_eq!(traffic(&server).await["weights"], json!({"2": 95.0, "3": 5.0}));
    change(&server, "/models/add/rollback", "").await;
    assert_eq!(traffic(&server).await, before);
    // 7 to 9: a promotion, and a series after it. 10: only that is aborted.
    change(&server, "/models/add/promote", r#"{"version": 3}"#).await;
    assert_eq!(post(&server, "/models/add/abort", "").await.status, 409, "a promotion ends a series");
    let promoted = traffic(&server).await;
    for points in [10.0, 20.0] {
        change(&server, "/models/add/shift", format!(r#"{{"from": 3, "to": 1, "points": {points}}}"#)).await;
    }
    server.signal("KILL");
    server = start();
    change(&server, "/models/add/abort", "").await;
    assert_eq!(traffic(&server).await, promoted);
    // 11: going back by revision is like so many rollbacks, so that the next goes further back.
    change(&server, "/models/add/rollback", r#"{"to_revision": 6}"#).await;
    assert_eq!(traffic(&server).await, before);
    assert_eq!(post(&server, "/models/add/rollback", "").await.status, 409);
    let refused = post(&server, "/models/add/rollback", r#"{"to_revision": 99}"#).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(refused.error().contains("no revision 99") && refused.error().contains("is at 11"), "{refused:?}");
    let stale = post(&server, "/models/add/abort", r#"{"expected_revision": 9}"#).await;
    assert_eq!(stale.status, 412, "{stale:?}");
    // The audit log has all of it.
    let audit = fs::read_to_string(state.path().join("audit.jsonl")).unwrap();
    let lines: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 11);
    assert_eq!((&lines[3]["change"], &lines[3]["actor"]), (&json!("abort"), &json!("ann")));
    assert_eq!(lines[4]["change"], json!({"rollback_to": 2}));
}
