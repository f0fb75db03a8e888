//! Two servers on one state folder: one writes, the other follows, and takes over.

use serde_json::json;
use std::fs;
use tempfile::TempDir;

use super::{answering, change, model, post, repository};
use crate::support::{
    client::get,
    server::{Server, eventually, field},
};

#[tokio::test(flavor = "multi_thread")]
async fn standby_server_follows_and_takes_over() {
    let (repository, state) = (repository(), TempDir::new().unwrap());
    let start = || Server::start_with(repository.path(), &["--state-dir", state.path().to_str().unwrap()]);
    let first = start();
    change(&first, "/models/add/weights", r#"{"weights": {"1": 1}}"#).await;
    let second = start();
    second.wait_for_log(|line| {
        let holder = format!("in use by another server (process {}", first.id());
        line["level"] == "WARN" && field(line, "error").contains(&holder)
    });
    assert_eq!(answering(&second).await, "1");
    let refused = post(&second, "/models/add/rollback", "").await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.error().contains(&format!("process {}", first.id())), "{refused:?}");

    // The second follows the changes of the first.
    change(&first, "/models/add/weights", r#"{"weights": {"2": 1}}"#).await;
    change(&first, "/models/add/versions/3/unload", "").await;
    eventually("the second follows", async || answering(&second).await == "2").await;
    eventually("version 3 is unloaded there", async || model(&second).await["versions"][2]["state"] == "UNLOADED")
        .await;
    assert_eq!(model(&second).await["revision"], 3);
    // Killed in the midst of whatever it does.
    first.signal("KILL");
    drop(first);
    eventually("the second takes over", async || {
        post(&second, "/models/add/weights", r#"{"weights": {"1": 1}}"#).await.status == 200
    })
    .await;
    let records = get(second.admin, "/admin/v1/models/add/history").await.json();
    let revisions: Vec<_> = records["records"].as_array().unwrap().iter().map(|record| &record["revision"]).collect();
    assert_eq!(json!(revisions), json!([1, 2, 3, 4]));
    // The next one that comes is the second's standby.
    let third = start();
    assert_eq!(post(&third, "/models/add/rollback", "").await.status, 503);
    change(&second, "/models/add/rollback", "").await;
    eventually("the third follows", async || answering(&third).await == "2").await;
    let audit = fs::read_to_string(state.path().join("audit.jsonl")).unwrap();
    assert_eq!(audit.lines().count(), 5, "{audit}");
}

/// Both were there before the folder was.
#[tokio::test(flavor = "multi_thread")]
async fn first_changing_server_becomes_the_writer() {
    let (repository, parent) = (repository(), TempDir::new().unwrap());
    let state = parent.path().join("state");
    let start = || Server::start_with(repository.path(), &["--state-dir", state.to_str().unwrap()]);
    let (first, second) = (start(), start());
    change(&second, "/models/add/weights", r#"{"weights": {"1": 1}}"#).await;
    eventually("the first follows", async || answering(&first).await == "1").await;
    assert_eq!(post(&first, "/models/add/rollback", "").await.status, 503);
}
