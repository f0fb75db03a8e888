//! Clients of the wrong port, or of another form of a protocol, get an error that says where and how to speak.

use axum::body::Body;
use http::{Method, Request, StatusCode};
use prost::Message;
use serde_json::json;
use std::net::SocketAddr;
use tempfile::TempDir;

use crate::{
    cli::{ended, text},
    support::{
        client::{Answer, float_bytes, raw_request, send},
        onnx,
        server::{Server, onnxd},
    },
};

fn start() -> (TempDir, Server) {
    let repository = TempDir::new().unwrap();
    onnx::add(1.0).save(&repository.path().join("add/1/model.onnx"));
    let server = Server::start(repository.path());
    (repository, server)
}

async fn ask(method: Method, address: SocketAddr, path: &str, content_type: &str, body: Vec<u8>) -> Answer {
    let request = Request::builder().method(method).uri(format!("http://{address}{path}"));
    send(request.header("content-type", content_type).body(Body::from(body)).unwrap()).await
}

/// The status of a call that was refused, and its message.
fn grpc_status(answer: &Answer) -> (String, String) {
    let header = |name: &str| answer.headers.get(name).map_or("", |value| value.to_str().unwrap());
    let message = percent_encoding::percent_decode_str(header("grpc-message")).decode_utf8().unwrap().into_owned();
    (header("grpc-status").to_owned(), message)
}

/// A call over gRPC of `ModelInfer`.
fn call() -> Vec<u8> {
    let message = raw_request("add", "x", "FP32", &[1, 2], float_bytes(&[1.0, 2.0])).encode_to_vec();
    [&[0], &u32::try_from(message.len()).unwrap().to_be_bytes()[..], &message].concat()
}

const MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

#[tokio::test(flavor = "multi_thread")]
async fn wrong_port_names_the_right_one() {
    let (_repository, server) = start();
    let json = json!({"inputs": []}).to_string();
    let over_http = |address, path| ask(Method::POST, address, path, "application/json", json.clone().into());
    let (http, grpc, admin) = (server.http.port(), server.grpc.port(), server.admin.port());
    let inferences = format!("port {http} answers inferences over HTTP");
    for (address, path, status, says) in [
        (server.grpc, "/v2/models/add/infer", StatusCode::UNSUPPORTED_MEDIA_TYPE, &inferences),
        (server.grpc, "/", StatusCode::UNSUPPORTED_MEDIA_TYPE, &inferences),
        (server.metrics, "/v2/models/add/infer", StatusCode::NOT_FOUND, &inferences),
        (server.admin, "/v2/models/add/infer", StatusCode::NOT_FOUND, &inferences),
        (server.http, "/admin/v1/models", StatusCode::NOT_FOUND, &format!("port {admin} answers the admin API")),
        (
            server.grpc,
            "/admin/v1/models",
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            &format!("port {admin} answers the admin API"),
        ),
        (server.http, "/metrics", StatusCode::NOT_FOUND, &format!("port {} answers metrics", server.metrics.port())),
    ] {
        let answer = over_http(address, path).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert!(answer.error().contains(says), "{path}: {}", answer.error());
    }
    for address in [server.http, server.metrics, server.admin] {
        let answer = ask(Method::POST, address, MODEL_INFER, "application/grpc", call()).await;
        let (status, message) = grpc_status(&answer);
        assert_eq!(status, "12", "{answer:?}");
        assert!(message.contains(&format!("port {grpc} answers gRPC")), "{message}");
    }
    let answer =
        ask(Method::POST, server.grpc, "/onnxd.admin.v1.AdminService/ListModels", "application/grpc", call()).await;
    assert!(grpc_status(&answer).1.contains(&format!("port {admin} answers the admin API")), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_at_the_wrong_port_name_the_right_one() {
    let (repository, server) = start();
    let file = repository.path().join("row.csv");
    std::fs::write(&file, "1,2").unwrap();
    let reported = |command: &[&str], option: &str, address: SocketAddr| {
        let output = ended(onnxd().args(command).args([option, &address.to_string()]));
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        text(&output.stderr).to_owned()
    };
    let (http, admin) = (server.http.port(), server.admin.port());
    for (address, here) in [(server.http, "inferences over HTTP"), (server.grpc, "gRPC"), (server.metrics, "metrics")] {
        let reported = reported(&["models"], "--server", address);
        assert!(reported.contains(&format!("this port answers {here}")), "{reported}");
        assert!(reported.contains(&format!("port {admin} answers the admin API")), "{reported}");
    }
    for address in [server.grpc, server.metrics, server.admin] {
        for command in [&["infer", "add", file.to_str().unwrap()][..], &["health"]] {
            let reported = reported(command, "--url", address);
            assert!(reported.contains(&format!("port {http} answers inferences over HTTP")), "{command:?}: {reported}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_of_grpc_that_are_not_spoken_are_refused() {
    let (_repository, server) = start();
    for path in [MODEL_INFER, "/grpc.health.v1.Health/Check"] {
        for form in ["application/grpc-web", "application/grpc-web+proto", "application/grpc-web-text"] {
            for address in [server.grpc, server.http] {
                let answer = ask(Method::POST, address, path, form, call()).await;
                assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{form}: {answer:?}");
                assert!(answer.error().contains("gRPC-Web is not spoken here"), "{}", answer.error());
            }
        }
        let answer = ask(Method::POST, server.grpc, path, "application/grpc+json", call()).await;
        let (status, message) = grpc_status(&answer);
        assert_eq!(status, "12", "{answer:?}");
        assert!(message.contains("Protocol Buffers") && message.contains("application/grpc+json"), "{message}");
    }
    for form in ["application/grpc", "application/grpc+proto", "application/grpc; charset=utf-8"] {
        let answer = ask(Method::POST, server.grpc, MODEL_INFER, form, call()).await;
        assert_eq!((answer.status, grpc_status(&answer).1), (StatusCode::OK, String::new()), "{form}");
        assert!(!answer.body.is_empty(), "{form}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_methods_get_the_allowed_methods() {
    let (_repository, server) = start();
    for (method, address, path, allowed) in [
        (Method::GET, server.http, "/v2/models/add/infer", "POST"),
        (Method::PUT, server.http, "/v2/models/add/versions/1/infer", "POST"),
        (Method::DELETE, server.http, "/v2/models/add", "GET, HEAD"),
        (Method::POST, server.http, "/v2/health/ready", "GET, HEAD"),
        (Method::POST, server.metrics, "/metrics", "GET,HEAD"),
        (Method::DELETE, server.admin, "/admin/v1/models", "GET"),
        (Method::POST, server.admin, "/admin/v1/openapi.json", "GET"),
    ] {
        let answer = ask(method.clone(), address, path, "application/json", Vec::new()).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}: {answer:?}");
        assert_eq!(answer.headers["allow"], allowed, "{method} {path}");
    }
}
