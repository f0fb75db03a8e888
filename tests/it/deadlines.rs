//! Requests whose answer would come too late are refused in time, whichever way they give the deadline.

use http::StatusCode;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use onnxd::api::proto::{
    InferParameter, ModelInferRequest, grpc_inference_service_client::GrpcInferenceServiceClient,
    infer_parameter::ParameterChoice,
};
use prost::Message;
use serde_json::{Value, json};
use std::io::Write;
use tempfile::TempDir;
use tonic::{Code, Request};

use crate::support::{
    client::{int64s, metric, post},
    h2::{self, Connection, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, RST_STREAM, frame},
    load::{NO_TIME_LIMITS, occupy, request},
    onnx,
    server::Server,
};

/// A request with the parameter `timeout`, which is in microseconds.
fn with_timeout(microseconds: u64) -> ModelInferRequest {
    let mut late = request(1);
    let parameter_choice = Some(ParameterChoice::Uint64Param(microseconds));
    late.parameters.insert("timeout".into(), InferParameter { parameter_choice });
    late
}

/// The same with gRPC's own deadline.
fn with_metadata(mut request: Request<ModelInferRequest>, timeout: &str) -> Request<ModelInferRequest> {
    request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
    request
}

fn json(parameters: Value) -> String {
    let input = json!({ "name": "iterations", "datatype": "INT64", "shape": [1, 1], "data": [1] });
    json!({ "inputs": [input], "parameters": parameters }).to_string()
}

fn start() -> (TempDir, Server) {
    let repository = TempDir::new().unwrap();
    onnx::slow().save(&repository.path().join("slow.onnx"));
    let server = Server::start_with(repository.path(), &NO_TIME_LIMITS);
    (repository, server)
}

type HyperClient = Client<HttpConnector, tonic::body::Body>;

/// Not tonic's channel, which would keep the deadline by itself.
fn client(server: &Server) -> GrpcInferenceServiceClient<HyperClient> {
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    GrpcInferenceServiceClient::with_origin(client, format!("http://{}", server.grpc).parse().unwrap())
}

const PATH: &str = "/v2/models/slow/infer";

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_that_are_far_away_or_none_are_met() {
    let (_repository, server) = start();
    let mut client = client(&server);
    for request in [
        Request::new(with_timeout(0)),
        Request::new(with_timeout(u64::MAX)),
        with_metadata(Request::new(request(1)), "99999999H"),
        with_metadata(Request::new(with_timeout(3_600_000_000)), "1H"),
    ] {
        let answer = client.model_infer(request).await.unwrap().into_inner();
        assert_eq!(int64s(&answer), [1]);
    }
    for timeout in [0, i64::MAX] {
        let answer = post(server.http, PATH, json(json!({ "timeout": timeout }))).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    let status = client.model_infer(with_metadata(Request::new(request(1)), "soon")).await.unwrap_err();
    assert!(status.code() == Code::InvalidArgument && status.message().contains("\"soon\""), "{status:?}");
}

/// Nobody behind an endless run on the only instance can be answered. No run has ended before, so the server predicts nothing,
/// and lets in who has little time.
#[tokio::test(flavor = "multi_thread")]
async fn late_requests_get_deadline_exceeded() {
    let (_repository, server) = start();
    let mut client = client(&server);
    let busy = occupy(&server).await;
    let late = [
        Request::new(with_timeout(1)),
        Request::new(with_timeout(1_000_000)),
        with_metadata(Request::new(request(1)), "1S"),
        // The earlier of the two counts.
        with_metadata(Request::new(with_timeout(3_600_000_000)), "1S"),
        with_metadata(Request::new(with_timeout(1_000_000)), "1H"),
    ];
    let count = late.len() + 1;
    for request in late {
        let status = client.model_infer(request).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert!(status.message().contains("model 'slow' version 1"), "{status:?}");
    }
    let answer = post(server.http, PATH, json(json!({ "timeout": 1_000_000 }))).await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    assert!(answer.error().contains("model 'slow' version 1"), "{answer:?}");

    let counted = metric(&server, "onnxd_requests_total", &["code=\"deadline_exceeded\""]).await;
    assert_eq!(counted, count as f64);
    assert_eq!(metric(&server, "nv_inference_request_failure", &["reason=\"REJECTED\""]).await, count as f64);
    assert_eq!(metric(&server, "onnxd_requests_in_flight", &[]).await, 1.0);
    busy.release().await;
}

/// The frames of a request for the service `slow`, whole.
fn frames(stream: u32, request: &ModelInferRequest) -> Vec<u8> {
    let head = h2::head("POST", "/inference.GRPCInferenceService/ModelInfer", &[("content-type", "application/grpc")]);
    let message = request.encode_to_vec();
    let data = [&[0], &(message.len() as u32).to_be_bytes()[..], &message].concat();
    [frame(HEADERS, END_HEADERS, stream, &head), frame(DATA, END_STREAM, stream, &data)].concat()
}

/// Many deadlines may pass at once, before the server has looked at the requests.
#[tokio::test(flavor = "multi_thread")]
async fn cancelled_burst_leaves_its_connection_open() {
    const CANCEL: [u8; 4] = 8u32.to_be_bytes();
    let repository = TempDir::new().unwrap();
    onnx::slow().save(&repository.path().join("slow/1/model.onnx"));
    let server = Server::start(repository.path());
    let mut connection = Connection::open(server.grpc);
    let mut burst = Vec::new();
    for stream in (1..1001).step_by(2) {
        burst.extend(frames(stream, &request(1)));
        burst.extend(frame(RST_STREAM, 0, stream, &CANCEL));
    }
    burst.extend(frames(1001, &request(1)));
    connection.stream.write_all(&burst).unwrap();
    loop {
        let Frame { kind, stream, payload } = connection.read().expect("the connection lives");
        assert_ne!(kind, GOAWAY, "{}", String::from_utf8_lossy(&payload));
        if stream == 1001 {
            break;
        }
    }
}
