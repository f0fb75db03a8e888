//! Requests are divided over versions by weight, stay with their version by their key, and may name a version by an alias.

use http::HeaderValue;
use onnxd::api::proto::{
    InferParameter, ModelInferRequest, ModelMetadataRequest, ModelReadyRequest,
    grpc_inference_service_client::GrpcInferenceServiceClient, infer_parameter::ParameterChoice,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, path::Path};
use tempfile::TempDir;
use tonic::{Code, Status, metadata::AsciiMetadataKey, transport::Channel};

use crate::support::{
    client::{Answer, float_bytes, floats, get, inference, metric, post_with, raw_request},
    h1::Connection,
    onnx, python,
    server::{Server, eventually},
};

/// A repository with the model `add`: versions 1 to 3 add their number, 4 can't be loaded.
fn repository(config: &str) -> TempDir {
    let repository = TempDir::new().unwrap();
    for version in 1..=3 {
        onnx::add(version as f32).save(&repository.path().join(format!("add/{version}/model.onnx")));
    }
    fs::create_dir(repository.path().join("add/4")).unwrap();
    fs::write(repository.path().join("add/4/model.onnx"), "no model").unwrap();
    configure(repository.path(), config);
    repository
}

fn configure(repository: &Path, config: &str) {
    let aside = repository.join("add/.config");
    fs::write(&aside, config).unwrap();
    fs::rename(aside, repository.join("add/config.toml")).unwrap();
}

type Client = GrpcInferenceServiceClient<Channel>;

/// A request that wants a version, or an alias, or none.
fn request(version: &str) -> ModelInferRequest {
    let request = raw_request("add", "x", "FP32", &[1, 2], float_bytes(&[0.0, 0.0]));
    ModelInferRequest { model_version: version.into(), ..request }
}

fn with_parameter(mut request: ModelInferRequest, value: ParameterChoice) -> ModelInferRequest {
    let parameter = InferParameter { parameter_choice: Some(value) };
    request.parameters.insert("routing_key".into(), parameter);
    request
}

/// The version that answers a request over gRPC, by all that shows it, and why.
async fn ask(
    client: &Client,
    request: ModelInferRequest,
    metadata: &[(&str, &str)],
) -> Result<(u64, String), Box<Status>> {
    let mut request = tonic::Request::new(request);
    for (name, value) in metadata {
        let name: AsciiMetadataKey = name.parse().unwrap();
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    let response = client.clone().model_infer(request).await?;
    let reported = |name| response.metadata().get(name).unwrap().to_str().unwrap().to_owned();
    let (version, reason) = (reported("onnxd-model-version"), reported("onnxd-routing-reason"));
    let answer = response.into_inner();
    assert_eq!(answer.model_version, version);
    assert_eq!(floats(&answer)[0].to_string(), version);
    Ok((version.parse().unwrap(), reason))
}

/// The same over HTTP. `version` is empty, or "/versions/..".
async fn post(server: &Server, version: &str, parameters: Value, headers: &[(&str, String)]) -> Answer {
    let path = format!("/v2/models/add{version}/infer");
    let inputs = json!([{ "name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0, 0] }]);
    post_with(server.http, &path, headers, json!({ "inputs": inputs, "parameters": parameters }).to_string()).await
}

/// The version that an answer over HTTP comes from, by all that shows it, and why.
fn reported(answer: &Answer) -> (u64, String) {
    assert_eq!(answer.status, 200, "{answer:?}");
    let reported = |name| answer.headers[name].to_str().unwrap().to_owned();
    let (version, reason) = (reported("onnxd-model-version"), reported("onnxd-routing-reason"));
    let json = answer.json();
    assert_eq!(
        (&json["model_version"], &json["outputs"][0]["data"][0]),
        (&json!(version), &json!(version.parse::<f64>().unwrap()))
    );
    (version.parse().unwrap(), reason)
}

/// The version of each key.
async fn versions_of_keys(server: &Server, keys: u32) -> Vec<u64> {
    let client = inference(server).await;
    let mut versions = Vec::new();
    for key in 0..keys {
        let key = format!("user-{key}");
        let (version, reason) = ask(&client, request(""), &[("onnxd-routing-key", &key)]).await.unwrap();
        assert_eq!(reason, "sticky");
        versions.push(version);
    }
    versions
}

async fn routed(server: &Server, version: u64, reason: &str) -> f64 {
    let labels = [&*format!("version=\"{version}\""), &*format!("reason=\"{reason}\"")];
    metric(server, "onnxd_routed_requests_total", &labels).await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_divided_by_weight_over_both_protocols() {
    const REQUESTS: usize = 4000;
    let repository = repository("[weights]\n2 = 99\n3 = 1");
    let server = Server::start(repository.path());
    let mut counts = Vec::new();

    let client = inference(&server).await;
    let mut canary = 0;
    for _ in 0..REQUESTS / 20 {
        let answers = futures_util::future::join_all((0..20).map(|_| ask(&client, request(""), &[]))).await;
        for answer in answers {
            let (version, reason) = answer.unwrap();
            assert!((version == 2 || version == 3) && reason == "weighted", "{version} {reason}");
            canary += usize::from(version == 3);
        }
    }
    counts.push(canary);

    let address = server.http;
    let canary = tokio::task::spawn_blocking(move || {
        let mut connection = Connection::open(address).unwrap();
        let body = br#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[0,0]}]}"#;
        let mut canary = 0;
        for _ in 0..REQUESTS {
            let reply = connection.post("/v2/models/add/infer", body).unwrap();
            let version = serde_json::from_slice::<Value>(&reply.body).unwrap()["model_version"].clone();
            assert!(version == "2" || version == "3", "{version}");
            canary += usize::from(version == "3");
        }
        canary
    });
    counts.push(canary.await.unwrap());

    // Five standard deviations: what chance does once in three million runs.
    let expected = REQUESTS as f64 * 0.01;
    for count in &counts {
        assert!((*count as f64 - expected).abs() < 5.0 * (expected * 0.99).sqrt(), "{counts:?}");
    }
    let canary = counts.iter().sum::<usize>() as f64;
    assert_eq!(routed(&server, 3, "weighted").await, canary);
    assert_eq!(routed(&server, 2, "weighted").await, 2.0 * REQUESTS as f64 - canary);
    assert_eq!(metric(&server, "onnxd_routed_requests_total", &[]).await, 2.0 * REQUESTS as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn routing_key_is_sticky_however_it_is_sent() {
    let repository = repository("routing_key_headers = [\"X-User-Id\", \"x-session\"]\n[weights]\n2 = 1\n3 = 1");
    let server = Server::start(repository.path());
    let client = inference(&server).await;
    let mut counts = BTreeMap::<u64, u32>::new();
    for key in 0..40 {
        let key = format!("user-{key}");
        let parameter = || ParameterChoice::StringParam(key.clone());
        let (version, reason) = ask(&client, with_parameter(request(""), parameter()), &[]).await.unwrap();
        assert_eq!(reason, "sticky");
        *counts.entry(version).or_default() += 1;
        let expected = (version, reason);

        // The request's own key wins, then the header of that name, then the first of the configured ones.
        let headers = ["onnxd-routing-key", "x-user-id", "x-session"];
        for index in 0..headers.len() {
            let mut given = vec![(headers[index], &*key)];
            given.extend(headers[index + 1..].iter().map(|name| (*name, "other")));
            given.extend(headers[..index].iter().map(|name| (*name, "")));
            assert_eq!(ask(&client, request(""), &given).await.unwrap(), expected, "{given:?}");
            let given: Vec<_> = given.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
            assert_eq!(reported(&post(&server, "", json!({}), &given).await), expected, "{given:?}");
        }
        let other = [("onnxd-routing-key", "other")];
        assert_eq!(ask(&client, with_parameter(request(""), parameter()), &other).await.unwrap(), expected);
        let other = other.map(|(name, value)| (name, value.to_owned()));
        assert_eq!(reported(&post(&server, "", json!({ "routing_key": key }), &other).await), expected);
    }
    assert!(counts.len() == 2 && counts.values().all(|count| *count > 8), "{counts:?}");

    // Neither an empty key nor one under a name that is not asked for is one.
    let empty = with_parameter(request(""), ParameterChoice::StringParam(String::new()));
    assert_eq!(ask(&client, empty, &[("x-user-id", ""), ("x-other", "u")]).await.unwrap().1, "weighted");
    // One that names its version needs none.
    assert_eq!(ask(&client, request("1"), &[("x-user-id", "u")]).await.unwrap(), (1, "pinned".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn routing_keys_are_bytes_of_bounded_length() {
    let repository = repository("[weights]\n2 = 1\n3 = 1");
    let server = Server::start(repository.path());
    let client = inference(&server).await;
    let bytes = HeaderValue::from_bytes(b"\xff\x80\xfe").unwrap();
    let raw = async || {
        let body = r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[0,0]}]}"#;
        let request = http::Request::post(format!("http://{}/v2/models/add/infer", server.http));
        let request = request.header("onnxd-routing-key", &bytes).body(body.into()).unwrap();
        reported(&crate::support::client::send(request).await)
    };
    let first = raw().await;
    assert_eq!(first.1, "sticky");
    assert_eq!(raw().await, first);

    let longest = "k".repeat(1024);
    assert_eq!(ask(&client, request(""), &[("onnxd-routing-key", &longest)]).await.unwrap().1, "sticky");
    let long = "k".repeat(1025);
    let status = ask(&client, request(""), &[("onnxd-routing-key", &long)]).await.unwrap_err();
    assert!(
        status.code() == Code::InvalidArgument && status.message().contains("at most 1024 bytes, got 1025"),
        "{status:?}"
    );
    let answer = post(&server, "", json!({ "routing_key": long }), &[]).await;
    assert!(answer.status == 400 && answer.error().contains("at most 1024 bytes, got 1025"), "{answer:?}");

    let number = with_parameter(request(""), ParameterChoice::Int64Param(7));
    let status = ask(&client, number, &[]).await.unwrap_err();
    assert!(status.message().contains("parameter 'routing_key' must be a string, got 7"), "{status:?}");
    let answer = post(&server, "", json!({ "routing_key": true }), &[]).await;
    assert!(answer.status == 400 && answer.error().contains("'routing_key' must be a string, got true"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn routing_key_picks_one_version_in_every_process() {
    let repository = repository("[weights]\n2 = 9\n3 = 1");
    let server = Server::start(repository.path());
    let versions = versions_of_keys(&server, 200).await;
    let replica = Server::start(repository.path());
    assert_eq!(versions_of_keys(&replica, 200).await, versions);
    drop((server, replica));
    let restarted = Server::start(repository.path());
    assert_eq!(versions_of_keys(&restarted, 200).await, versions);
    // As docs/traffic.md has clients compute it.
    let canary: Vec<_> = (0..200).filter(|key| versions[*key] == 3).collect();
    assert_eq!(canary, CANARY_KEYS);
}

/// Keys, of user-0 to user-199, that Python sends to version 3 of `add` with weights 9 and 1.
const CANARY_KEYS: [usize; 19] = [0, 4, 5, 20, 25, 79, 80, 99, 108, 113, 119, 123, 124, 144, 159, 171, 175, 189, 190];

#[tokio::test(flavor = "multi_thread")]
async fn weights_turn_over_without_a_load_and_move_keys_one_way() {
    let repository = repository("[weights]\n2 = 95\n3 = 5");
    let server = Server::start(repository.path());
    let loads = || server.count_log(|line| line["message"] == "ready" && line["model"] == "add");
    let before = versions_of_keys(&server, 100).await;
    assert_eq!(loads(), 3);
    configure(repository.path(), "[weights]\n2 = 50\n3 = 50");
    eventually("the split has changed", async || versions_of_keys(&server, 100).await != before).await;
    let after = versions_of_keys(&server, 100).await;
    assert!(before.iter().zip(&after).all(|(before, after)| before == after || *after == 3), "{before:?} {after:?}");

    // A version that comes has no weight.
    onnx::add(7.0).save(&repository.path().join("add/7/model.onnx"));
    server.wait_for_log(|line| line["message"] == "ready" && line["version"] == 7);
    assert_eq!(versions_of_keys(&server, 100).await, after);

    // One that goes moves its own keys only.
    configure(repository.path(), "[weights]\n1 = 20\n2 = 50\n3 = 30");
    eventually("version 1 has weight", async || versions_of_keys(&server, 100).await.contains(&1)).await;
    let three = versions_of_keys(&server, 100).await;
    // (Not because its files have gone: then it goes on serving, having weight.)
    let unloaded = post_with(server.admin, "/admin/v1/models/add/versions/3/unload", &[], r#"{"force": true}"#).await;
    assert_eq!(unloaded.status, 200, "{unloaded:?}");
    let two = versions_of_keys(&server, 100).await;
    assert!(three.iter().zip(&two).all(|(before, after)| before == after || *before == 3), "{three:?} {two:?}");
    assert!(!two.contains(&3) && three.contains(&3));
    assert_eq!(loads(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_stand_where_versions_may() {
    let config = "[aliases]\nstable = 2\ncanary = 3\nnext = 4\nold-one = 9\n[weights]\n2 = 1";
    let repository = repository(config);
    let server = Server::start(repository.path());
    let mut client = inference(&server).await;
    for (alias, version) in [("stable", 2), ("canary", 3)] {
        assert_eq!(ask(&client, request(alias), &[]).await.unwrap(), (version, "alias".into()));
        assert_eq!(
            reported(&post(&server, &format!("/versions/{alias}"), json!({}), &[]).await),
            (version, "alias".into())
        );
    }
    // All requests without a version go to the only one that has weight, whatever comes with them.
    assert_eq!(ask(&client, request(""), &[("onnxd-routing-key", "k")]).await.unwrap(), (2, "weighted".into()));
    assert_eq!(reported(&post(&server, "", json!({}), &[]).await), (2, "weighted".into()));

    for (alias, code, says) in [
        ("blue", Code::NotFound, "model 'add' has no alias 'blue'; its aliases are: canary, next, old-one, stable"),
        ("next", Code::Unavailable, "model 'add' version 4 (its alias 'next') is not ready: "),
        (
            "old-one",
            Code::Unavailable,
            "model 'add' has no version 9 (its alias 'old-one'); its versions are: 1, 2, 3, 4",
        ),
    ] {
        let status = ask(&client, request(alias), &[]).await.unwrap_err();
        assert!(status.code() == code && status.message().starts_with(says), "{status:?}");
        let answer = post(&server, &format!("/versions/{alias}"), json!({}), &[]).await;
        let expected = if code == Code::NotFound { 404 } else { 503 };
        assert!(answer.status == expected && answer.error().starts_with(says), "{answer:?}");
    }

    for (alias, status, ready) in [("canary", 200, true), ("next", 503, false), ("blue", 404, false)] {
        let path = format!("/v2/models/add/versions/{alias}");
        assert_eq!(get(server.http, &format!("{path}/ready")).await.status, status);
        assert_eq!(get(server.http, &path).await.status, status);
        let (name, version) = ("add".to_owned(), alias.to_owned());
        let asked = client.model_ready(ModelReadyRequest { name: name.clone(), version: version.clone() }).await;
        assert_eq!(asked.unwrap().into_inner().ready, ready);
        assert_eq!(client.model_metadata(ModelMetadataRequest { name, version }).await.is_ok(), status == 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn model_without_ready_weight_is_unavailable() {
    let repository = repository("[aliases]\nstable = 1\n[weights]\n4 = 95\n9 = 5");
    let server = Server::start(repository.path());
    let client = inference(&server).await;
    let status = ask(&client, request(""), &[]).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    for says in [
        "model 'add' has no version that is ready and has weight: version 1 (weight 0) is ready; ",
        "; version 4 (weight 95) is not ready: it failed to load; ",
        "; there is no version 9 (weight 5)",
    ] {
        assert!(status.message().contains(says), "{says}: {}", status.message());
    }
    let answer = post(&server, "", json!({ "routing_key": "k" }), &[]).await;
    assert!(answer.status == 503 && answer.error() == status.message(), "{answer:?}");
    assert_eq!(get(server.http, "/v2/models/add/ready").await.status, 503);
    // A version or an alias that is named answers.
    assert_eq!(ask(&client, request("2"), &[]).await.unwrap(), (2, "pinned".into()));
    assert_eq!(ask(&client, request("stable"), &[]).await.unwrap(), (1, "alias".into()));
    // Without weights, stable takes all; without that, the highest that is ready.
    for (config, version) in [("[aliases]\nstable = 1", 1), ("", 3)] {
        configure(repository.path(), config);
        let expected = (version, "default".to_owned());
        let answers = async || {
            let asked = ask(&client, request(""), &[("onnxd-routing-key", "k")]).await;
            asked.is_ok_and(|answer| answer == expected)
        };
        eventually("the version takes all", answers).await;
        assert_eq!(reported(&post(&server, "", json!({ "routing_key": "k" }), &[]).await), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tritonclient_sends_aliases_and_routing_keys() {
    let repository =
        repository("routing_key_headers = [\"x-user-id\"]\n[aliases]\ncanary = 3\n[weights]\n2 = 9\n3 = 1");
    let server = Server::start(repository.path());
    let versions = versions_of_keys(&server, 40).await.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    let (grpc, http) = (server.grpc.to_string(), server.http.to_string());
    let repository = repository.path().to_str().unwrap();
    let arguments = ["--grpc", &grpc, "--http", &http, "--repository", repository, "--versions", &versions];
    python::run("tritonclient_sends_aliases_and_routing_keys", "traffic.py", &arguments);
}
