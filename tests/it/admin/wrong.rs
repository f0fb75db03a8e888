//! Bad input gets a clear error, and nothing is changed.

use http::Method;
use onnxd::api::proto::admin::{SetWeightsRequest, ShiftTrafficRequest};
use serde_json::Value;
use tonic::Code;

use super::{call, change, client, model, post, repository};
use crate::support::{
    client::{get, infer, inference},
    load, onnx,
    server::{Server, eventually},
};

/// Method, path, body, status, code, and what the message has to say.
type Case = (&'static str, &'static str, &'static str, u16, &'static str, &'static [&'static str]);

#[rustfmt::skip]
const CASES: &[Case] = &[
    ("POST", "/models/add/weights", r#"{"weights": {"2": -1}}"#, 400, "invalid_argument", &["'add'", "version 2", "-1"]),
    ("POST", "/models/add/weights", r#"{"weights": {"2": 0, "3": 0}}"#, 400, "invalid_argument", &["'add'", "only zeros"]),
    ("POST", "/models/add/weights", r#"{"weights": {"2": NaN}}"#, 400, "invalid_argument", &["no JSON", "column 19"]),
    ("POST", "/models/add/weights", r#"{"weights": {"2": 1e999}}"#, 400, "invalid_argument", &["out of range"]),
    ("POST", "/models/add/weights", r#"{"weights": {"2": 1e308, "3": 1.7e308}}"#, 400, "invalid_argument", &["'add'", "finite sum"]),
    ("POST", "/models/add/weights", r#"{"weights": {"2": "5"}}"#, 400, "invalid_argument", &["weights.2", "a number", "\"5\""]),
    ("POST", "/models/add/weights", r#"{"weights": {"two": 5}}"#, 400, "invalid_argument", &["weights", "keys that are integers"]),
    ("POST", "/models/add/weights", r#"{"weights": {"0": 5}}"#, 400, "invalid_argument", &["'add'", "at least 1", "0"]),
    ("POST", "/models/add/weights", r#"{"weights": {"-1": 5}}"#, 400, "invalid_argument", &["weights", "-1"]),
    ("POST", "/models/add/weights", r#"{"weights": [5]}"#, 400, "invalid_argument", &["weights", "a map"]),
    ("POST", "/models/add/weights", r#"{"weights": {}}"#, 400, "invalid_argument", &["'add'", "weights", "got none"]),
    ("POST", "/models/add/weights", "", 400, "invalid_argument", &["'add'", "weights"]),
    ("POST", "/models/add/weights", "[]", 400, "invalid_argument", &["object", "an array"]),
    ("POST", "/models/add/weights", "{", 400, "invalid_argument", &["no JSON"]),
    ("POST", "/models/add/weights", r#"{"weights": {"2": 1, "2": 99}}"#, 400, "invalid_argument", &["\"2\"", "twice", "column 24"]),
    ("POST", "/models/add/weights", r#"{"weights": {"2": 1}, "weights": {"3": 1}}"#, 400, "invalid_argument", &["\"weights\"", "twice"]),
    ("POST", "/models/add/weights", r#"{"weights": {"2": 1, "02": 99}}"#, 400, "invalid_argument", &["weights"]),
    ("POST", "/models/add/weights", r#"{"weights": {"2": 1}, "weigh\u0074s": {"3": 1}}"#, 400, "invalid_argument", &["\"weights\"", "twice"]),
    ("DELETE", "/models/add/aliases/stable?actor=ann&actor=bob", "", 400, "invalid_argument", &["actor"]),
    ("POST", "/models/add/weights", r#"{"weigths": {"2": 5}}"#, 400, "invalid_argument", &["weigths", "unknown field", "`weights`"]),
    ("POST", "/models/add/weights", r#"{"weights": {"2": 5}, "expected_revision": "1"}"#, 400, "invalid_argument", &["expected_revision", "integer"]),
    ("POST", "/models/add/weights", r#"{"weights": {"2": 5}, "expected_revision": -1}"#, 400, "invalid_argument", &["expected_revision", "-1"]),
    ("POST", "/models/add/weights", r#"{"weights": {"2": 5}, "model": "other"}"#, 400, "invalid_argument", &["model", "other"]),
    ("POST", "/models/add/weights?actor=ann", r#"{"weights": {"2": 5}}"#, 400, "invalid_argument", &["body", "actor=ann"]),
    ("POST", "/models/nobody/weights", r#"{"weights": {"2": 5}}"#, 404, "not_found", &["'nobody'"]),
    ("POST", "/models/add/weights", r#"{"weights": {"9": 5}}"#, 404, "not_found", &["'add'", "version 9", "1, 2, 3, 4"]),
    ("POST", "/models/add/weights", r#"{"weights": {"4": 5}}"#, 409, "failed_precondition", &["'add'", "version 4", "failed"]),
    ("POST", "/models/add/weights", r#"{"weights": {"5": 5}}"#, 409, "failed_precondition", &["'add'", "version 5", "not loaded"]),
    ("POST", "/models/add/shift", r#"{"from": 2, "to": 3, "points": 5, "percent": 5}"#, 400, "invalid_argument", &["percent", "unknown field"]),
    ("POST", "/models/add/shift", r#"{"to": 3, "points": 5}"#, 400, "invalid_argument", &["'add'", "from"]),
    ("POST", "/models/add/shift", r#"{"from": 3, "to": 2}"#, 400, "invalid_argument", &["'add'", "points", "0"]),
    ("POST", "/models/add/shift", r#"{"from": 3, "to": 2, "points": 101}"#, 400, "invalid_argument", &["'add'", "101"]),
    ("POST", "/models/add/shift", r#"{"from": 3, "to": 3, "points": 1}"#, 400, "invalid_argument", &["'add'", "3 twice"]),
    ("POST", "/models/add/shift", r#"{"from": 2, "to": 3, "points": 1}"#, 409, "failed_precondition", &["'add'", "version 2", "has 0"]),
    ("POST", "/models/add/shift", r#"{"from": 3, "to": 4, "points": 1}"#, 409, "failed_precondition", &["'add'", "version 4", "failed"]),
    ("PUT", "/models/add/aliases/canary", r#"{"version": 4}"#, 409, "failed_precondition", &["'add'", "'canary'", "version 4"]),
    ("PUT", "/models/add/aliases/canary", "", 400, "invalid_argument", &["'add'", "version"]),
    ("PUT", "/models/add/aliases/7", r#"{"version": 3}"#, 400, "invalid_argument", &["'add'", "'7'", "a letter"]),
    ("PUT", "/models/add/aliases/a%20b", r#"{"version": 3}"#, 400, "invalid_argument", &["'a b'"]),
    ("DELETE", "/models/add/aliases/canary", "", 404, "not_found", &["'add'", "'canary'", "none"]),
    ("DELETE", "/models/add/aliases/canary?expected_version=1", "", 400, "invalid_argument", &["expected_version", "unknown field"]),
    ("POST", "/models/add/promote", r#"{"version": 4}"#, 409, "failed_precondition", &["'add'", "version 4", "promoted"]),
    ("POST", "/models/add/promote", r#"{"version": 2.5}"#, 400, "invalid_argument", &["version", "2.5", "integer"]),
    ("POST", "/models/add/rollback", "", 409, "failed_precondition", &["'add'", "take back"]),
    ("POST", "/models/add/rollback", r#"{"expected_revision": 7}"#, 412, "aborted", &["'add'", "7"]),
    ("POST", "/models/add/versions/9/load", "", 404, "not_found", &["'add'", "version 9"]),
    ("POST", "/models/add/versions/x/load", "", 404, "not_found", &["'add'", "no alias 'x'"]),
    ("POST", "/models/add/versions/1.5/load", "", 400, "invalid_argument", &["version", "'1.5'"]),
    ("POST", "/models/add/versions/0/load", "", 400, "invalid_argument", &["'add'", "version", "0"]),
    ("POST", "/models/add/versions/2/load", r#"{"version": 3}"#, 400, "invalid_argument", &["version", "2", "3"]),
    ("POST", "/models/add/versions/5/reload", "", 409, "failed_precondition", &["'add'", "version 5", "not loaded"]),
    ("GET", "/models/add/wait?version=4", "", 409, "failed_precondition", &["'add'", "version 4", "failed"]),
    ("GET", "/models/add/wait?version=x", "", 400, "invalid_argument", &["version", "integer"]),
    ("GET", "/models/add/wait?timeout=long", "", 400, "invalid_argument", &["'add'", "timeout", "'long'"]),
    ("GET", "/models/add/wait?timeout=2h", "", 400, "invalid_argument", &["'add'", "timeout", "1h"]),
    ("GET", "/models/nobody/wait", "", 404, "not_found", &["'nobody'"]),
    ("GET", "/models/nobody", "", 404, "not_found", &["'nobody'"]),
    ("GET", "/models/nobody/history", "", 404, "not_found", &["'nobody'"]),
    ("GET", "/models/nobody/explain", "", 404, "not_found", &["'nobody'"]),
    ("GET", "/watch?model=nobody", "", 404, "not_found", &["'nobody'"]),
    ("GET", "/models/add/explain?version=9", "", 404, "not_found", &["'add'", "version 9"]),
    ("GET", "/models/add/explain?version=beta", "", 404, "not_found", &["'add'", "'beta'"]),
    ("GET", "/models/add/explain?keey=x", "", 400, "invalid_argument", &["keey", "unknown field", "`key`"]),
    ("GET", "/models/add/explain?key=a&key=b", "", 400, "invalid_argument", &["duplicate", "key"]),
    ("GET", "/models/add?model=add", "", 400, "invalid_argument", &["model", "path"]),
    ("GET", "/models/%FF", "", 400, "invalid_argument", &["UTF-8"]),
    ("GET", "/modles", "", 404, "not_found", &["/admin/v1/modles", "openapi.json"]),
    ("GET", "/models/add/weights", "", 405, "unimplemented", &["/admin/v1/models/add/weights", "POST", "GET"]),
    ("PATCH", "/models/add/aliases/canary", "", 405, "unimplemented", &["PUT and DELETE", "PATCH"]),
    ("POST", "/openapi.json", "", 405, "unimplemented", &["GET", "POST"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn wrong_call_reports_the_cause_and_changes_nothing() {
    let repository = repository();
    super::save_version(repository.path(), 5);
    let server = Server::start_with(repository.path(), &["--model-control", "explicit"]);
    for version in 1..=4 {
        change(&server, &format!("/models/add/versions/{version}/load"), "").await;
    }
    eventually("they are loaded", async || {
        let model = model(&server).await;
        let states: Vec<_> = model["versions"].as_array().unwrap().iter().map(|version| &version["state"]).collect();
        states == ["READY", "READY", "READY", "FAILED", "UNLOADED"]
    })
    .await;
    let before = model(&server).await;
    let mut complaints = Vec::new();
    for (method, path, body, status, code, says) in CASES {
        let answer = call(server.admin, Method::from_bytes(method.as_bytes()).unwrap(), path, *body).await;
        let reported: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let error = reported["error"].as_str().unwrap_or_default();
        if answer.status != *status || reported["code"] != *code || !says.iter().all(|part| error.contains(part)) {
            complaints.push(format!(
                "{method} {path} {body}\n    {} {reported}, expected {status} {code} {says:?}",
                answer.status
            ));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert_eq!(model(&server).await, before);

    // Over gRPC there are more numbers.
    let mut client = client(&server).await;
    for weight in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.5] {
        let weights = [(2, weight)].into();
        let refused =
            client.set_weights(SetWeightsRequest { model: "add".into(), weights, ..Default::default() }).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().contains("'add': the weight of version 2"), "{refused:?}");
        let shift = ShiftTrafficRequest { model: "add".into(), from: 3, to: 2, points: weight, ..Default::default() };
        assert_eq!(client.shift_traffic(shift).await.unwrap_err().code(), Code::InvalidArgument, "{weight}");
    }
    assert_eq!(model(&server).await, before);

    let large = post(&server, "/models/add/weights", vec![b' '; 300 << 10]).await;
    assert_eq!((large.status.as_u16(), large.json()["code"].as_str()), (413, Some("resource_exhausted")));
}

/// Two admins both act on the state that they saw: the second gets a report of the first one's change.
#[tokio::test(flavor = "multi_thread")]
async fn second_of_two_admins_gets_a_conflict() {
    let repository = repository();
    let server = Server::start(repository.path());
    let revision = model(&server).await["revision"].as_u64().unwrap();
    let body = |weight: u64, actor: &str| {
        format!(
            r#"{{"weights": {{"2": {weight}, "3": 1}}, "expected_revision": {revision}, "actor": "{actor}", "reason": "why not"}}"#
        )
    };
    let [one, two] = [body(9, "ann"), body(8, "bob")];
    let (one, two) = tokio::join!(post(&server, "/models/add/weights", one), post(&server, "/models/add/weights", two));
    let (made, refused) = if one.status == 200 { (one, two) } else { (two, one) };
    assert_eq!((made.status.as_u16(), refused.status.as_u16()), (200, 412), "{refused:?}");
    assert_eq!(refused.json()["code"], "aborted");
    let actor = made.json()["record"]["actor"].as_str().unwrap().to_owned();
    let reported = refused.error();
    assert!(
        reported.contains("revision 1: set weights") && reported.contains(&actor) && reported.contains("why not"),
        "{reported}"
    );
    assert_eq!(model(&server).await["revision"], 1);
}

/// A version that is being loaded, or that is going away, gets no traffic.
#[tokio::test(flavor = "multi_thread")]
async fn loading_or_retiring_version_takes_no_weight() {
    let repository = tempfile::TempDir::new().unwrap();
    for version in [1, 2] {
        onnx::slow().save(&repository.path().join(format!("slow/{version}/model.onnx")));
    }
    let server = Server::start_with(repository.path(), &load::NO_TIME_LIMITS);
    // A test case that does not end keeps a version loading.
    let rounds = i64::MAX;
    let case = format!(
        r#"{{"inputs": [{{"name": "iterations", "datatype": "INT64", "shape": [1, 1], "data": [{rounds}]}}],
        "outputs": [{{"name": "y", "datatype": "INT64", "shape": [1, 1], "data": [{rounds}]}}]}}"#
    );
    let aside = repository.path().join("slow/.3");
    onnx::slow().save(&aside.join("model.onnx"));
    std::fs::create_dir(aside.join("tests")).unwrap();
    std::fs::write(aside.join("tests/slow.json"), case).unwrap();
    std::fs::rename(&aside, repository.path().join("slow/3")).unwrap();
    let state = async |version: usize| {
        let model = get(server.admin, "/admin/v1/models/slow").await.json();
        model["versions"][version - 1]["state"].as_str().map(str::to_owned)
    };
    eventually("version 3 is being loaded", async || state(3).await.as_deref() == Some("LOADING")).await;
    let refused = post(&server, "/models/slow/weights", r#"{"weights": {"3": 1}}"#).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(
        refused.error().contains("version 3 is not ready") && refused.error().contains("being loaded"),
        "{refused:?}"
    );

    // A version goes once its last request is answered.
    let busy = load::occupy(&server).await;
    let client = inference(&server).await;
    let last = tokio::spawn(async move { infer(&client, load::request(7)).await });
    load::queued(&server, 1.0).await;
    change(&server, "/models/slow/versions/2/unload", r#"{"force": true}"#).await;
    assert_eq!(state(2).await.as_deref(), Some("RETIRING"));
    let refused = post(&server, "/models/slow/promote", r#"{"version": 2}"#).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(refused.error().contains("version 2") && refused.error().contains("retiring"), "{refused:?}");
    busy.release().await;
    assert_eq!(last.await.unwrap().unwrap().model_version, "2", "a request in flight is answered");
    eventually("version 2 is gone", async || state(2).await.as_deref() == Some("UNLOADED")).await;
}
