//! kill -9 at any moment loses nothing that was acknowledged.

use axum::body::Body;
use http::Request;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};
use tempfile::TempDir;

use super::{model, repository};
use crate::support::server::Server;

/// tests/soak/kill.py does the same two hundred times.
const ROUNDS: u64 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_changes_survive_kill_9() {
    let (repository, state) = (repository(), TempDir::new().unwrap());
    let acknowledged = Arc::new(AtomicU64::new(0));
    for round in 1..=ROUNDS {
        let server = Server::start_with(repository.path(), &["--state-dir", state.path().to_str().unwrap()]);
        let (made, first) = (acknowledged.clone(), acknowledged.load(SeqCst));
        let address = server.admin;
        let changes = tokio::spawn(async move {
            let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
            for number in made.load(SeqCst) + 1.. {
                let body = format!(r#"{{"weights": {{"2": {number}, "3": 1}}}}"#);
                let request = Request::post(format!("http://{address}/admin/v1/models/add/weights"));
                let answer = client.request(request.body(body.into()).unwrap()).await;
                if !answer.is_ok_and(|answer| answer.status() == 200) {
                    return;
                }
                made.store(number, SeqCst);
            }
        });
        // At another moment of a change every time.
        while acknowledged.load(SeqCst) < first + 5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_micros(700 * round)).await;
        server.signal("KILL");
        changes.await.unwrap();
        drop(server);

        let server = Server::start_with(repository.path(), &["--state-dir", state.path().to_str().unwrap()]);
        let model = model(&server).await;
        let number = acknowledged.load(SeqCst);
        let weight = &model["traffic"]["weights"]["2"];
        // A change that was on its way may have been made too.
        assert!(
            [json!(number as f64), json!((number + 1) as f64)].contains(weight),
            "{number} was acknowledged: {model}"
        );
        acknowledged.store(weight.as_f64().unwrap() as u64, SeqCst);
        assert_eq!(model["revision"].as_u64(), Some(acknowledged.load(SeqCst)), "one revision for each change");
    }
}
