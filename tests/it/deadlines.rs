//! Requests whose answer would come too late are told so in time, whichever way they say when that is.

use http::StatusCode;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use onnxd::api::grpc::proto::{
    InferParameter, ModelInferRequest, grpc_inference_service_client::GrpcInferenceServiceClient,
    infer_parameter::ParameterChoice,
};
use prost::Message;
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};
use tempfile::TempDir;
use tonic::{Code, Request};

use crate::support::{
    client::{infer, inference, int64_bytes, int64s, metric, post, raw_request},
    onnx,
    server::{Server, eventually},
};

/// A run of so many rounds.
fn rounds(count: i64) -> ModelInferRequest {
    raw_request("slow", "iterations", "INT64", &[1, 1], int64_bytes(&[count]))
}

/// The same with the parameter `timeout`, which is in microseconds.
fn with_timeout(microseconds: u64) -> ModelInferRequest {
    let mut request = rounds(1);
    let parameter_choice = Some(ParameterChoice::Uint64Param(microseconds));
    request.parameters.insert("timeout".into(), InferParameter { parameter_choice });
    request
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

#[tokio::test(flavor = "multi_thread")]
async fn late_requests_are_told_so() {
    let repository = TempDir::new().unwrap();
    onnx::slow().save(&repository.path().join("slow.onnx"));
    let server = Server::start(repository.path());
    // Not tonic's channel, which would keep the deadline by itself.
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http::<tonic::body::Body>();
    let uri = format!("http://{}", server.grpc).parse().unwrap();
    let mut client = GrpcInferenceServiceClient::with_origin(client, uri);
    let path = "/v2/models/slow/infer";

    // Deadlines that are far away, or none.
    for request in [
        Request::new(with_timeout(0)),
        Request::new(with_timeout(u64::MAX)),
        with_metadata(Request::new(rounds(1)), "99999999H"),
        with_metadata(Request::new(with_timeout(3_600_000_000)), "1H"),
    ] {
        let answer = client.model_infer(request).await.unwrap().into_inner();
        assert_eq!(int64s(&answer), [1]);
    }
    for timeout in [0, i64::MAX] {
        let answer = post(server.http, path, json(json!({ "timeout": timeout }))).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }

    let status = client.model_infer(with_metadata(Request::new(rounds(1)), "soon")).await.unwrap_err();
    assert!(status.code() == Code::InvalidArgument && status.message().contains("\"soon\""), "{status:?}");

    // A run without end holds the only instance: nobody behind it can be answered. It goes with the server.
    let endless = inference(&server).await;
    let endless = tokio::spawn(async move { infer(&endless, rounds(i64::MAX)).await });
    let pending = async || metric(&server, "onnxd_requests_in_flight", &[]).await;
    eventually("the endless run is there", async || pending().await == 1.0).await;

    // Time enough for a run of what has run before: who has less is not let in.
    let late = [
        Request::new(with_timeout(1)),
        Request::new(with_timeout(1_000_000)),
        with_metadata(Request::new(rounds(1)), "1S"),
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
    let answer = post(server.http, path, json(json!({ "timeout": 1_000_000 }))).await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    assert!(answer.error().contains("model 'slow' version 1"), "{answer:?}");

    let counted = metric(&server, "onnxd_requests_total", &["code=\"deadline_exceeded\""]).await;
    assert_eq!(counted, count as f64);
    assert_eq!(metric(&server, "nv_inference_request_failure", &["reason=\"REJECTED\""]).await, count as f64);
    assert_eq!(pending().await, 1.0);
    endless.abort();
}

/// One HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The frames of a request for the service `slow`, whole.
fn frames(stream: u32, request: &ModelInferRequest) -> Vec<u8> {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    // POST, http, and literal fields that no table keeps.
    let mut head = vec![0x83, 0x86];
    let path = "/inference.GRPCInferenceService/ModelInfer";
    for (name, value) in [(":path", path), (":authority", "test"), ("content-type", "application/grpc")] {
        head.extend([&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat());
    }
    let message = request.encode_to_vec();
    let data = [&[0], &(message.len() as u32).to_be_bytes()[..], &message].concat();
    [frame(HEADERS, 4, stream, &head), frame(DATA, 1, stream, &data)].concat()
}

/// Many deadlines may pass at once, before the server has looked at the requests.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_cancelled_requests_costs_the_connection_nothing() {
    const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    const GOAWAY: u8 = 7;
    const CANCEL: [u8; 4] = 8u32.to_be_bytes();
    let repository = TempDir::new().unwrap();
    onnx::slow().save(&repository.path().join("slow/1/model.onnx"));
    let server = Server::start(repository.path());
    let mut connection = TcpStream::connect(server.grpc).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut burst = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    burst.extend(frame(SETTINGS, 0, 0, &[]));
    for stream in (1..1001).step_by(2) {
        burst.extend(frames(stream, &rounds(1)));
        burst.extend(frame(RST_STREAM, 0, stream, &CANCEL));
    }
    burst.extend(frames(1001, &rounds(1)));
    connection.write_all(&burst).unwrap();
    loop {
        let mut head = [0; 9];
        connection.read_exact(&mut head).expect("the connection lives");
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        connection.read_exact(&mut payload).unwrap();
        assert_ne!(head[3], GOAWAY, "{}", String::from_utf8_lossy(&payload));
        if u32::from_be_bytes(head[5..].try_into().unwrap()) == 1001 {
            break;
        }
    }
}
