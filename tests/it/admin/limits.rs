//! What callers of the admin API can't do, however they try: fill the state, take every place, or write to others' terminals.

use http::Method;
use onnxd::api::admin::proto::{WatchRequest, admin_service_client::AdminServiceClient};
use serde_json::{Value, json};
use std::fs;
use tempfile::TempDir;
use tonic::{Code, transport::Channel};

use super::{call, change, model, post, repository};
use crate::support::{
    client::get,
    server::{Server, eventually},
};

#[tokio::test(flavor = "multi_thread")]
async fn who_and_why_are_plain_text() {
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
