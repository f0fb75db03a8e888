//! Everything that happens, as it happens.

use http_body_util::BodyExt;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use onnxd::api::proto::admin::{Event, SetWeightsRequest, WatchRequest, admin_service_client::AdminServiceClient};
use serde_json::{Value, json};
use std::time::Duration;
use tempfile::TempDir;
use tonic::transport::Channel;

use super::{change, client, repository};
use crate::support::{
    client::{infer, inference, int64s},
    load, onnx,
    server::{Server, WAIT_TIMEOUT},
};

/// Server-sent events.
struct Events {
    body: hyper::body::Incoming,
    text: String,
}

impl Events {
    async fn open(server: &Server, query: &str) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http::<axum::body::Body>();
        let uri = format!("http://{}/admin/v1/watch{query}", server.admin).parse().unwrap();
        let response = client.get(uri).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events { body: response.into_body(), text: String::new() }
    }

    /// The next event: name, id and data. `None` at the end.
    async fn next(&mut self) -> Option<(String, u64, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                if event.starts_with(':') {
                    continue;
                }
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
                let data = serde_json::from_str(&field("data: ")).unwrap();
                return Some((field("event: "), field("id: ").parse().unwrap(), data));
            }
            let frame = tokio::time::timeout(WAIT_TIMEOUT, self.body.frame()).await.unwrap()?.unwrap();
            self.text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }

    /// The next event for which it holds.
    async fn until(&mut self, holds: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (_, _, event) = self.next().await.expect("the stream ended");
            if holds(&event) {
                return event;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_sends_the_state_then_every_change() {
    let repository = repository();
    let server = Server::start(repository.path());
    let mut events = Events::open(&server, "?model=add").await;
    let mut stream = client(&server).await.watch(WatchRequest::default()).await.unwrap().into_inner();
    let mut next = async || tokio::time::timeout(WAIT_TIMEOUT, stream.message()).await.unwrap().unwrap().unwrap();

    let mut states = Vec::new();
    for number in 1.. {
        let (name, id, event) = events.next().await.unwrap();
        let over_grpc: Event = next().await;
        assert_eq!((id, &name), (number, &over_grpc.kind));
        assert_eq!(event["kind"], name);
        match name.as_str() {
            "begin" => assert_eq!(number, 1),
            "current" => break,
            _ => {
                assert_eq!(event, serde_json::to_value(&over_grpc).unwrap());
                states.push((
                    event["version"]["version"].as_u64(),
                    event["version"]["state"].as_str().map(str::to_owned),
                ));
            }
        }
    }
    let ready = |version| (Some(version), Some("READY".to_owned()));
    assert_eq!(states, [ready(1), ready(2), ready(3), (Some(4), Some("FAILED".to_owned()))]);

    change(&server, "/models/add/weights", r#"{"weights": {"2": 9, "3": 1}, "actor": "ann", "reason": "try"}"#).await;
    let event = events.until(|event| event["kind"] == "traffic").await;
    assert_eq!(event["model"], "add");
    assert_eq!(event["revision"], 1);
    let expected =
        json!({"traffic": {"weights": {"2": 9.0, "3": 1.0}, "aliases": {}}, "actor": "ann", "reason": "try"});
    assert_eq!(event["traffic"], expected);
    change(&server, "/models/add/versions/1/unload", "").await;
    let event = events.until(|event| event["version"]["version"] == 1 && event["version"]["state"] == "UNLOADED").await;
    assert_eq!(event["kind"], "version");
    super::save_version(repository.path(), 7);
    events.until(|event| event["version"]["version"] == 7 && event["version"]["state"] == "READY").await;
    loop {
        let event = next().await;
        if event.version.is_some_and(|version| version.version == 7 && version.state == "READY") {
            break;
        }
    }
}

/// A stream on which nothing happens is not a connection that rests, and ends as soon as the server does.
#[tokio::test(flavor = "multi_thread")]
async fn streams_outlive_the_idle_timeout_and_end_with_the_server() {
    let repository = repository();
    let mut server = Server::start_with(repository.path(), &["--idle-timeout", "100ms", "--drain-timeout", "1h"]);
    let mut events = Events::open(&server, "").await;
    let mut stream = client(&server).await.watch(WatchRequest::default()).await.unwrap().into_inner();
    events.until(|event| event["kind"] == "current").await;
    // Ten times as long as a connection may rest.
    let quiet = Duration::from_secs(1);
    assert!(tokio::time::timeout(quiet, events.next()).await.is_err(), "nothing happens");
    change(&server, "/models/add/weights", r#"{"weights": {"2": 1}}"#).await;
    events.until(|event| event["kind"] == "traffic").await;

    server.signal("TERM");
    assert!(events.next().await.is_none());
    while let Some(event) = tokio::time::timeout(WAIT_TIMEOUT, stream.message()).await.unwrap().unwrap() {
        assert!(!event.kind.is_empty());
    }
    assert!(server.wait().success());
}

/// A replaced generation is reported until its last request is answered, beside the version that goes on.
#[tokio::test(flavor = "multi_thread")]
async fn draining_generations_are_reported() {
    let repository = TempDir::new().unwrap();
    onnx::slow().save(&repository.path().join("slow/1/model.onnx"));
    let server = Server::start_with(repository.path(), &load::NO_TIME_LIMITS);
    let mut events = Events::open(&server, "?model=slow").await;
    events.until(|event| event["kind"] == "current").await;
    let busy = load::occupy(&server).await;
    let grpc = inference(&server).await;
    let last = tokio::spawn(async move { infer(&grpc, load::request(7)).await });
    load::queued(&server, 1.0).await;
    change(&server, "/models/slow/versions/1/reload", "").await;
    let mut states = Vec::new();
    while states.len() < 2 {
        let (_, _, event) = events.next().await.unwrap();
        states.push(json!([event["kind"], event["version"]["state"], event["version"]["generation"]]));
    }
    assert_eq!(json!(states), json!([["version", "READY", 2], ["generation", "RETIRING", 1]]));
    // A watcher that comes now gets a report of it too.
    let mut later = Events::open(&server, "").await;
    let seen = later.until(|event| event["kind"] == "generation").await;
    assert_eq!((&seen["version"]["state"], &seen["version"]["generation"]), (&json!("RETIRING"), &json!(1)));
    busy.release().await;
    assert_eq!(int64s(&last.await.unwrap().unwrap()), [7]);
    let (_, _, gone) = events.next().await.unwrap();
    assert_eq!(
        json!([gone["kind"], gone["version"]["version"], gone["version"]["state"], gone["version"]["generation"]]),
        json!(["generation", 1, "GONE", 1])
    );
}

/// Nothing is kept for a client that does not read: it gets a report that it has missed something, and the state again.
#[tokio::test(flavor = "multi_thread")]
async fn slow_watcher_restarts_from_the_current_state() {
    let repository = repository();
    // In memory, where there is such a place: a thousand changes are a thousand times the state written.
    let state = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    let server = Server::start_with(repository.path(), &["--state-dir", state.path().to_str().unwrap()]);
    let channel = Channel::from_shared(format!("http://{}", server.admin)).unwrap();
    // A few events.
    let channel = channel.initial_stream_window_size(2048).connect().await.unwrap();
    let watching = AdminServiceClient::new(channel).watch(WatchRequest::default()).await.unwrap();
    let mut stream = watching.into_inner();
    let mut next = async || tokio::time::timeout(WAIT_TIMEOUT, stream.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(next().await.kind, "begin");
    let mut changes = client(&server).await;
    for weight in 1..=1200 {
        let weights = [(2, f64::from(weight)), (3, 1.0)].into();
        let request = SetWeightsRequest { model: "add".into(), weights, ..Default::default() };
        changes.set_weights(request).await.unwrap();
    }
    let begins = loop {
        let event = next().await;
        if event.kind == "begin" {
            break event;
        }
    };
    assert!(begins.reason.contains("too slow") && begins.reason.contains("missed"), "{begins:?}");
    let mut last = None;
    loop {
        let event = next().await;
        match event.kind.as_str() {
            "current" => break,
            "traffic" => last = event.traffic,
            _ => {}
        }
    }
    assert_eq!(last.unwrap().traffic.unwrap().weights[&2], 1200.0);
}
