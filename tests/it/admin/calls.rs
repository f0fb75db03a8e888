//! Every call, with the same answer over gRPC and HTTP.

use http::Method;
use onnxd::api::proto::admin::{
    AbortRequest, DropAliasRequest, ExplainRequest, GetHistoryRequest, GetModelRequest, ListModelsRequest,
    LoadVersionRequest, PromoteRequest, ReloadVersionRequest, ResetTrafficRequest, RollbackRequest, SetAliasRequest,
    SetWeightsRequest, ShiftTrafficRequest, UnloadVersionRequest, WaitReadyRequest,
};
use serde_json::{Value, json};

use super::{answering, call, change, client, model, post, repository};
use crate::support::{
    client::{float_bytes, get, infer, inference, raw_request},
    server::{Server, eventually},
};

/// An answer without what differs from server to server.
fn comparable(mut answer: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for name in ["time", "since", "load_seconds", "generation", "run_memory_bytes"] {
                    fields.remove(name);
                }
                fields.values_mut().for_each(strip);
            }
            Value::Array(elements) => elements.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut answer);
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_calls_answer_alike_over_both_protocols() {
    let repository = repository();
    let (by_grpc, by_http) = (Server::start(repository.path()), Server::start(repository.path()));
    let mut client = client(&by_grpc).await;
    let (model, actor, reason) = (|| "add".to_owned(), || "ann".to_owned(), || "because".to_owned());
    let terms = r#""actor": "ann", "reason": "because""#;
    let weights = [(2, 95.0), (3, 5.0)].into();

    macro_rules! both {
        ($call:ident, $request:expr, $method:ident $path:literal, $body:expr) => {{
            let answer = client.$call($request).await.unwrap().into_inner();
            let over_grpc = comparable(serde_json::to_value(&answer).unwrap());
            let over_http = call(by_http.admin, Method::$method, $path, $body).await;
            assert_eq!(over_http.status, 200, "{}: {over_http:?}", $path);
            assert_eq!(over_http.headers["content-type"], "application/json");
            assert_eq!(comparable(over_http.json()), over_grpc, "{}", $path);
            over_grpc
        }};
    }
    let none = String::new;
    let models = both!(list_models, ListModelsRequest {}, GET "/models", none());
    assert_eq!(models["revision"], 0);
    assert_eq!(models["models"][0]["versions"].as_array().unwrap().len(), 4, "{models}");
    let shown = both!(get_model, GetModelRequest { model: model() }, GET "/models/add", none());
    let states: Vec<_> = shown["versions"].as_array().unwrap().iter().map(|version| &version["state"]).collect();
    assert_eq!(states, ["READY", "READY", "READY", "FAILED"], "{shown}");
    assert!(shown["versions"][3]["problem"].as_str().unwrap().len() > 10, "{shown}");
    assert_eq!(shown["versions"][2]["share"], 1.0);

    let request = SetWeightsRequest {
        model: model(),
        weights,
        expected_revision: Some(0),
        actor: actor(),
        reason: reason(),
        ..Default::default()
    };
    let body = format!(r#"{{"weights": {{"2": 95, "3": 5}}, "expected_revision": 0, {terms}}}"#);
    let set = both!(set_weights, request, POST "/models/add/weights", body);
    assert_eq!(set["revision"], 1);
    assert_eq!(set["record"]["before"]["weights"], json!({}));
    assert_eq!(set["record"]["after"]["weights"], json!({"2": 95.0, "3": 5.0}));
    assert_eq!(set["record"]["actor"], "ann");
    assert_eq!(set["record"]["kind"], "set_weights");
    assert_eq!(set["model"]["versions"][1]["share"], 0.95);
    assert_eq!(
        (&set["model"]["decided_by_admin"], &set["model"]["source"]),
        (&json!(true), &json!("admin revision 1"))
    );

    let request = ShiftTrafficRequest { model: model(), from: 2, to: 3, points: 20.0, ..Default::default() };
    let body = r#"{"from": 2, "to": 3, "points": 20}"#;
    let shifted = both!(shift_traffic, request, POST "/models/add/shift", body);
    assert_eq!(shifted["model"]["traffic"]["weights"], json!({"2": 75.0, "3": 25.0}));

    let request = SetAliasRequest { model: model(), alias: "canary".into(), version: 3, ..Default::default() };
    let aliased = both!(set_alias, request, PUT "/models/add/aliases/canary", r#"{"version": 3}"#);
    assert_eq!(aliased["model"]["versions"][2]["aliases"], json!(["canary"]));

    let key = Some("user-7".to_owned());
    let request = ExplainRequest { model: model(), key, version: none() };
    let explained = both!(explain, request, GET "/models/add/explain?key=user-7", none());
    assert_eq!(explained["reason"], "sticky");
    assert!(explained["version"] == 2 || explained["version"] == 3, "{explained}");
    let request = ExplainRequest { model: model(), key: None, version: none() };
    let explained = both!(explain, request, GET "/models/add/explain", none());
    assert_eq!((&explained["reason"], &explained["version"]), (&json!("weighted"), &Value::Null));
    assert_eq!(explained["shares"][1], json!({"version": 2, "share": 0.75}));
    let request = ExplainRequest { model: model(), key: None, version: "canary".into() };
    let explained = both!(explain, request, GET "/models/add/explain?version=canary", none());
    assert_eq!((&explained["reason"], &explained["version"]), (&json!("alias"), &json!(3)));

    let request = DropAliasRequest {
        model: model(),
        alias: "canary".into(),
        expected_revision: Some(3),
        actor: "a b&c".into(),
        reason: none(),
    };
    let path = "/models/add/aliases/canary?expected_revision=3&actor=a+b%26c";
    let dropped = client.drop_alias(request).await.unwrap().into_inner();
    let over_http = call(by_http.admin, Method::DELETE, path, none()).await.json();
    assert_eq!(comparable(serde_json::to_value(&dropped).unwrap()), comparable(over_http));
    assert_eq!(dropped.record.unwrap().actor, "a b&c");

    let request = PromoteRequest { model: model(), version: 3, ..Default::default() };
    let promoted = both!(promote, request, POST "/models/add/promote", r#"{"version": 3}"#);
    let traffic = json!({"weights": {"3": 100.0}, "aliases": {"stable": 3}});
    assert_eq!(promoted["model"]["traffic"], traffic);
    let rolled =
        both!(rollback, RollbackRequest { model: model(), ..Default::default() }, POST "/models/add/rollback", "");
    assert_eq!(rolled["model"]["traffic"]["weights"], json!({"2": 75.0, "3": 25.0}));

    let request = UnloadVersionRequest { model: model(), version: Some(1), ..Default::default() };
    let unloaded = both!(unload_version, request, POST "/models/add/versions/1/unload", "");
    assert_eq!(unloaded["record"]["after"], Value::Null, "loading is no traffic");
    let request = LoadVersionRequest { model: model(), version: Some(1), ..Default::default() };
    client.load_version(request).await.unwrap();
    assert_eq!(post(&by_http, "/models/add/load", r#"{"version": 1}"#).await.status, 200);
    let request = WaitReadyRequest { model: model(), version: Some(1), timeout: "1m".into(), ..Default::default() };
    let ready = both!(wait_ready, request, GET "/models/add/wait?version=1&timeout=1m", none());
    assert_eq!(ready["versions"][0]["state"], "READY");
    let request = ReloadVersionRequest { model: model(), version: Some(1), ..Default::default() };
    client.reload_version(request).await.unwrap();
    assert_eq!(post(&by_http, "/models/add/versions/1/reload", "{}").await.status, 200);

    let to = RollbackRequest { model: model(), to_revision: Some(1), ..Default::default() };
    let rolled = both!(rollback, to, POST "/models/add/rollback", r#"{"to_revision": 1}"#);
    assert_eq!(rolled["record"]["after"], set["record"]["after"]);
    let aborted = both!(abort, AbortRequest { model: model(), ..Default::default() }, POST "/models/add/abort", "");
    assert_eq!(aborted["model"]["source"], "default");
    let request = ResetTrafficRequest { model: model(), reason: reason(), ..Default::default() };
    let body = r#"{"reason": "because"}"#;
    let reset = both!(reset_traffic, request, POST "/models/add/traffic/reset", body);
    assert_eq!(reset["model"]["traffic"], json!({"weights": {}, "aliases": {}}));

    let history = both!(get_history, GetHistoryRequest { model: model() }, GET "/models/add/history", none());
    let kinds: Vec<_> = history["records"].as_array().unwrap().iter().map(|record| &record["kind"]).collect();
    let expected = [
        "set_weights",
        "shift",
        "set_alias",
        "drop_alias",
        "promote",
        "rollback",
        "unload",
        "load",
        "reload",
        "rollback",
        "abort",
        "reset_traffic",
    ];
    assert_eq!(kinds, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_call_waits_for_the_reloaded_generation() {
    let repository = repository();
    let server = Server::start(repository.path());
    let generation = |model: &Value| model["versions"][2]["generation"].as_u64().unwrap();
    let before = generation(&model(&server).await);
    for round in 1..=5 {
        change(&server, "/models/add/versions/3/reload", "").await;
        let ready = get(server.admin, "/admin/v1/models/add/wait?version=3").await;
        assert_eq!(ready.status, 200);
        assert!(generation(&ready.json()) >= before + round, "{ready:?}");
    }
}

/// While requests come without a pause, each that begins after a rollback has returned goes where it went before.
#[tokio::test(flavor = "multi_thread")]
async fn rollback_holds_for_every_later_request() {
    let repository = repository();
    let server = Server::start(repository.path());
    change(&server, "/models/add/weights", r#"{"weights": {"2": 1}}"#).await;
    let inferences = inference(&server).await;
    let load: Vec<_> = (0..8)
        .map(|_| {
            let inferences = inferences.clone();
            tokio::spawn(async move {
                loop {
                    let request = raw_request("add", "x", "FP32", &[1, 2], float_bytes(&[0.0, 0.0]));
                    infer(&inferences, request).await.unwrap();
                }
            })
        })
        .collect();
    for _ in 0..20 {
        change(&server, "/models/add/promote", r#"{"version": 3}"#).await;
        assert_eq!(answering(&server).await, "3");
        change(&server, "/models/add/rollback", "").await;
        for _ in 0..20 {
            let request = raw_request("add", "x", "FP32", &[1, 2], float_bytes(&[0.0, 0.0]));
            assert_eq!(infer(&inferences, request).await.unwrap().model_version, "2");
        }
    }
    assert!(load.iter().all(|client| !client.is_finished()), "no request fails");
    load.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_port_serves_health_and_reflection() {
    use onnxd::api::proto::health::{HealthCheckRequest, health_client::HealthClient};
    use tonic::transport::Channel;
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let repository = repository();
    let server = Server::start(repository.path());
    let channel = Channel::from_shared(format!("http://{}", server.admin)).unwrap().connect().await.unwrap();
    for service in ["", "onnxd.admin.v1.AdminService", "add"] {
        let request = HealthCheckRequest { service: service.into() };
        let checked = HealthClient::new(channel.clone()).check(request).await.unwrap().into_inner();
        assert_eq!(checked.status, 1, "{service}");
    }
    let list = MessageRequest::ListServices(String::new());
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let asked = ServerReflectionClient::new(channel).server_reflection_info(tokio_stream(request)).await.unwrap();
    let answer = asked.into_inner().message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(services) = answer else { panic!("{answer:?}") };
    let mut names: Vec<_> = services.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(names, ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "onnxd.admin.v1.AdminService"]);
    eventually("the server is ready", async || get(server.http, "/v2/health/ready").await.status == 200).await;
}

fn tokio_stream<T: Send + 'static>(item: T) -> impl futures_util::Stream<Item = T> + Send + 'static {
    futures_util::stream::iter([item])
}
