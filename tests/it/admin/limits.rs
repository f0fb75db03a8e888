//! Limits of callers of the admin API: they can't fill the state, take every place, or write to others' terminals.

use http::Method;
use onnxd::api::proto::admin::{WatchRequest, admin_service_client::AdminServiceClient};
use serde_json::{Value, json};
use std::fs;
use tempfile::TempDir;
use tonic::{Code, transport::Channel};

use super::{call, change, model, post, repository};
use crate::support::{
    client::get,
    server::{Server, eventually},
};

/// A model is refused more weights and aliases than anybody needs.
#[tokio::test(flavor = "multi_thread")]
async fn weights_and_aliases_are_bounded() {
    let repository = TempDir::new().unwrap();
    (1..=65).for_each(|version| super::save_version(repository.path(), version));
    let server = Server::start(repository.path());
    let weights = |count: u64| {
        let weights: serde_json::Map<_, _> = (1..=count).map(|version| (version.to_string(), json!(1))).collect();
        json!({"weights": weights}).to_string()
    };
    change(&server, "/models/add/weights", weights(64)).await;
    let before = model(&server).await;
    for refused in [weights(65), json!({"weights": {"1": 1, "99": 0}}).to_string()] {
        let answer = post(&server, "/models/add/weights", refused).await;
        let reported = answer.error();
        let known = match answer.status.as_u16() {
            400 => reported.contains("'add'") && reported.contains("65") && reported.contains("64"),
            404 => reported.contains("'add'") && reported.contains("version 99"),
            _ => false,
        };
        assert!(known, "{answer:?}");
    }
    let shift = post(&server, "/models/add/shift", r#"{"from": 1, "to": 65, "points": 1}"#).await;
    assert_eq!((shift.status.as_u16(), shift.json()["code"].as_str()), (400, Some("invalid_argument")), "{shift:?}");
    assert_eq!(model(&server).await, before);

    let alias = async |number: usize, version: u64| {
        let path = format!("/models/add/aliases/a{number}");
        call(server.admin, Method::PUT, &path, format!(r#"{{"version": {version}}}"#)).await
    };
    for number in 1..=64 {
        assert_eq!(alias(number, 1).await.status, 200);
    }
    let refused = alias(65, 1).await;
    assert_eq!((refused.status.as_u16(), refused.json()["code"].as_str()), (400, Some("invalid_argument")));
    assert!(refused.error().contains("'add'") && refused.error().contains("64"), "{refused:?}");
    // Aliases that exist move.
    assert_eq!(alias(64, 2).await.status, 200);
}

/// A weight that is there stays, and may be said again, when its version has gone; new ones need a version that there is.
#[tokio::test(flavor = "multi_thread")]
async fn new_weight_needs_an_existing_version() {
    let repository = repository();
    let server = Server::start(repository.path());
    change(&server, "/models/add/weights", r#"{"weights": {"1": 5, "2": 95, "3": 0}}"#).await;
    fs::remove_dir_all(repository.path().join("add/3")).unwrap();
    eventually("version 3 is gone", async || !model(&server).await["versions"].to_string().contains("\"version\":3"))
        .await;
    change(&server, "/models/add/weights", r#"{"weights": {"1": 6, "2": 94, "3": 0}}"#).await;
    for (body, version) in [(r#"{"weights": {"2": 1, "3": 1}}"#, 3), (r#"{"weights": {"2": 1, "7": 0}}"#, 7)] {
        let refused = post(&server, "/models/add/weights", body).await;
        assert_eq!(refused.status, 404, "{refused:?}");
        assert!(refused.error().contains(&format!("'add' has no version {version}")), "{refused:?}");
    }
}

/// Watchers leave places for callers who would help.
#[tokio::test(flavor = "multi_thread")]
async fn watchers_leave_connections_for_calls() {
    let repository = repository();
    let server = Server::start(repository.path());
    let mut watching = Vec::new();
    let refused = loop {
        let channel = Channel::from_shared(format!("http://{}", server.admin)).unwrap().connect().await;
        let Ok(channel) = channel else { panic!("{} watchers have taken every place", watching.len()) };
        let mut client = AdminServiceClient::new(channel);
        match client.watch(WatchRequest::default()).await {
            Ok(stream) => watching.push((client, stream.into_inner())),
            Err(refused) => break refused,
        }
        assert!(watching.len() < 1000, "there is no limit");
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().contains(&watching.len().to_string()), "{refused:?}");
    let waits = get(server.admin, "/admin/v1/models/add/wait?version=1").await;
    assert_eq!((waits.status.as_u16(), waits.json()["code"].as_str()), (429, Some("resource_exhausted")), "{waits:?}");
    change(&server, "/models/add/promote", r#"{"version": 2}"#).await;
    change(&server, "/models/add/rollback", "").await;
    // One that ends leaves its place to the next.
    watching.pop();
    eventually("there is a place again", async || {
        get(server.admin, "/admin/v1/models/add/wait?version=1").await.status == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deeply_nested_bodies_are_rejected() {
    let repository = repository();
    let server = Server::start(repository.path());
    let deep = format!("{{\"weights\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let refused = post(&server, "/models/add/weights", deep).await;
    assert_eq!((refused.status.as_u16(), refused.json()["code"].as_str()), (400, Some("invalid_argument")));
    assert!(refused.error().contains("recursion limit"), "{refused:?}");
}

/// Text of one caller is read by others on their terminals and in their logs.
#[tokio::test(flavor = "multi_thread")]
async fn actor_and_reason_are_plain_text() {
    let repository = repository();
    let server = Server::start(repository.path());
    for (field, text) in [
        ("actor", "ann\n"),
        ("actor", "ann\u{1b}[2J"),
        ("actor", "ann\u{202e}bob"),
        ("reason", "\u{1b}]0;title\u{7}"),
        ("reason", "\u{9b}2J"),
        ("reason", "\u{0}"),
    ] {
        let body = json!({"weights": {"2": 1}, field: text}).to_string();
        let refused = post(&server, "/models/add/weights", body).await;
        assert_eq!(refused.status, 400, "{field} {text:?}: {refused:?}");
        assert!(refused.error().contains("'add'") && refused.error().contains(field), "{refused:?}");
        assert!(!refused.error().contains(text), "{refused:?}");
    }
    let body = json!({"weights": {"2": 1}, "actor": "Ann Große 👩‍🔬", "reason": "one\n\ttwo"}).to_string();
    let changed: Value = change(&server, "/models/add/weights", body).await;
    assert_eq!(changed["record"]["reason"], "one\n\ttwo");
}

/// A version that a call has unloaded, and that is deleted and comes back, says why it is not loaded.
#[tokio::test(flavor = "multi_thread")]
async fn unloaded_version_stays_unloaded_and_reports_the_cause() {
    let repository = repository();
    let server = Server::start(repository.path());
    change(&server, "/models/add/versions/3/unload", r#"{"force": true}"#).await;
    fs::remove_dir_all(repository.path().join("add/3")).unwrap();
    let versions = async || model(&server).await["versions"].clone();
    eventually("it is gone", async || !versions().await.to_string().contains("\"version\":3")).await;
    super::save_version(repository.path(), 3);
    eventually("it is back", async || versions().await.to_string().contains("\"version\":3")).await;
    let back = versions().await[2].clone();
    assert_eq!((&back["version"], &back["state"]), (&json!(3), &json!("UNLOADED")), "{back}");
    assert!(back["problem"].as_str().unwrap().contains("an admin call asked for it to be unloaded"), "{back}");
    change(&server, "/models/add/versions/3/load", "").await;
    let ready = get(server.admin, "/admin/v1/models/add/wait?version=3").await;
    assert_eq!((ready.status.as_u16(), &ready.json()["versions"][2]["problem"]), (200, &Value::Null), "{ready:?}");
}
