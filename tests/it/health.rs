//! Health checking, readiness and reflection.

use onnxd::api::proto::{
    ModelReadyRequest,
    health::{HealthCheckRequest, health_check_response::ServingStatus},
};
use serde_json::json;
use std::{fs, path::Path};
use tempfile::TempDir;
use tonic::{Code, Status, Streaming};
use tonic_reflection::pb;

use crate::support::{
    client::{channel, get, health, inference},
    onnx,
    server::Server,
};

const SERVICE: &str = "inference.GRPCInferenceService";

fn service(name: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: name.into() }
}

/// A model that can't be loaded.
fn save_broken(repository: &Path, name: &str) {
    fs::create_dir_all(repository.join(name).join("1")).unwrap();
    fs::write(repository.join(name).join("1/model.onnx"), "no model").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn health_reports_the_server_and_every_model() {
    let repository = TempDir::new().unwrap();
    onnx::add(1.0).save(&repository.path().join("good/1/model.onnx"));
    save_broken(repository.path(), "broken");
    save_broken(repository.path(), "good");
    fs::rename(repository.path().join("good/1"), repository.path().join("good/2")).unwrap();
    onnx::add(1.0).save(&repository.path().join("good/1/model.onnx"));
    let server = Server::start_with(repository.path(), &["--ready", "any"]);
    let mut checks = health(&server).await;
    let mut client = inference(&server).await;

    for (name, expected) in [
        ("", Ok(ServingStatus::Serving)),
        (SERVICE, Ok(ServingStatus::Serving)),
        ("good", Ok(ServingStatus::Serving)),
        ("broken", Ok(ServingStatus::NotServing)),
        ("nobody", Err(Code::NotFound)),
    ] {
        let checked = checks.check(service(name)).await;
        let status = checked.map(|checked| checked.into_inner().status());
        assert_eq!(status.map_err(|status| status.code()), expected, "{name}");
    }

    assert_eq!(get(server.http, "/v2/health/live").await.json(), json!({ "live": true }));
    assert_eq!(get(server.http, "/v2/health/ready").await.json(), json!({ "ready": true }));
    for (model, version, expected) in [
        ("good", "", Ok(true)),
        ("good", "1", Ok(true)),
        ("good", "2", Ok(false)),
        ("good", "3", Err((Code::NotFound, "its versions are: 1, 2"))),
        ("good", "x", Err((Code::NotFound, "no alias 'x'"))),
        ("good", "-1", Err((Code::InvalidArgument, "'-1'"))),
        ("broken", "", Ok(false)),
        ("broken", "1", Ok(false)),
        ("nobody", "", Err((Code::NotFound, "'nobody'"))),
    ] {
        let request = ModelReadyRequest { name: model.into(), version: version.into() };
        let ready = client.model_ready(request).await.map(|ready| ready.into_inner().ready);
        let path = match version {
            "" => format!("/v2/models/{model}/ready"),
            version => format!("/v2/models/{model}/versions/{version}/ready"),
        };
        let answer = get(server.http, &path).await;
        match expected {
            Ok(expected) => {
                assert_eq!(ready.unwrap(), expected, "{path}");
                assert_eq!(answer.status, if expected { 200 } else { 503 }, "{path}");
                assert_eq!(answer.json(), json!({ "name": model, "ready": expected }));
            }
            Err((Code::NotFound, says)) => {
                // Clients of Triton ask in a loop, and would end at an error over gRPC.
                assert!(!ready.unwrap(), "{path}");
                assert_eq!((answer.status.as_u16(), &answer.json()["ready"]), (404, &json!(false)), "{path}");
                assert!(answer.error().contains(says), "{path}: {answer:?}");
            }
            Err((code, says)) => {
                let status = ready.unwrap_err();
                assert!(status.code() == code && status.message().contains(says), "{path}: {status:?}");
                assert_eq!(answer.status, 400, "{path}");
                assert!(answer.error().contains(says), "{path}: {answer:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_watch_streams_every_change() {
    let repository = TempDir::new().unwrap();
    save_broken(repository.path(), "model");
    let mut server = Server::start_with(repository.path(), &["--drain-delay", "1h"]);
    let mut checks = health(&server).await;
    let mut watch = async |name| checks.watch(service(name)).await.unwrap().into_inner();
    let (mut whole, mut model, mut later) = (watch("").await, watch("model").await, watch("later").await);
    assert_eq!(next(&mut whole).await, Some(ServingStatus::NotServing));
    assert_eq!(next(&mut model).await, Some(ServingStatus::NotServing));
    assert_eq!(next(&mut later).await, Some(ServingStatus::ServiceUnknown));

    onnx::add(1.0).save(&repository.path().join("model/1/model.onnx"));
    assert_eq!(next(&mut model).await, Some(ServingStatus::Serving));
    assert_eq!(next(&mut whole).await, Some(ServingStatus::Serving));
    onnx::add(1.0).save(&repository.path().join("later/1/model.onnx"));
    // Seen on its way, or not: it is known before it is loaded.
    let mut status = next(&mut later).await;
    if status == Some(ServingStatus::NotServing) {
        status = next(&mut later).await;
    }
    assert_eq!(status, Some(ServingStatus::Serving));
    fs::remove_dir_all(repository.path().join("later/1")).unwrap();
    assert_eq!(next(&mut later).await, Some(ServingStatus::ServiceUnknown));

    // While it drains, the server and its models are not ready, but live, and nobody is kept watching.
    server.signal("TERM");
    assert_eq!(next(&mut whole).await, Some(ServingStatus::NotServing));
    assert_eq!(next(&mut model).await, Some(ServingStatus::NotServing));
    for watch in [&mut whole, &mut model, &mut later] {
        assert_eq!(next(watch).await, None);
    }
    assert_eq!(get(server.http, "/v2/health/live").await.status, 200);
    let ready = get(server.http, "/v2/health/ready").await;
    assert_eq!(
        (ready.status.as_u16(), ready.json()),
        (503, json!({ "ready": false, "error": "the server is shutting down" }))
    );
    assert_eq!(get(server.http, "/v2/models/model/ready").await.status, 200);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(128 + 15));
}

async fn next(watch: &mut Streaming<onnxd::api::proto::health::HealthCheckResponse>) -> Option<ServingStatus> {
    watch.message().await.unwrap().map(|response| response.status())
}

/// Calls that `grpcurl` and its like make before they can call.
#[tokio::test(flavor = "multi_thread")]
async fn reflection_describes_the_services() {
    use pb::v1::{
        ServerReflectionRequest, server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let repository = TempDir::new().unwrap();
    let server = Server::start(repository.path());
    let mut client = pb::v1::server_reflection_client::ServerReflectionClient::new(channel(&server).await);
    let mut ask = async |question| -> Result<MessageResponse, Status> {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
        let mut answers = client.server_reflection_info(futures_util::stream::iter([request])).await?.into_inner();
        Ok(answers.message().await?.unwrap().message_response.unwrap())
    };

    let MessageResponse::ListServicesResponse(services) =
        ask(MessageRequest::ListServices(String::new())).await.unwrap()
    else {
        panic!("no list of services");
    };
    let names: Vec<_> = services.service.into_iter().map(|service| service.name).collect();
    for name in [SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"] {
        assert!(names.iter().any(|known| known == name), "{name} is not among {names:?}");
    }
    let question = MessageRequest::FileContainingSymbol(format!("{SERVICE}.ModelInfer"));
    let MessageResponse::FileDescriptorResponse(files) = ask(question).await.unwrap() else {
        panic!("no description of ModelInfer");
    };
    let described = files.file_descriptor_proto.concat();
    for name in ["ModelInferRequest", "raw_input_contents"] {
        assert!(described.windows(name.len()).any(|bytes| bytes == name.as_bytes()), "{name} is not described");
    }

    // Tools of before 2023 ask under the older name.
    use pb::v1alpha as old;
    let mut client = old::server_reflection_client::ServerReflectionClient::new(channel(&server).await);
    let question = old::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = old::ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut answers = client.server_reflection_info(futures_util::stream::iter([request])).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
}
