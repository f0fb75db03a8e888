//! Too much at once is answered, and work that nobody waits for is never done.

use http::StatusCode;
use std::{fs, io::Write, net::TcpStream, time::Duration};
use tempfile::TempDir;
use tonic::Code;

use crate::support::{
    client::{infer, inference, int64_bytes, int64s, metric, post, raw_request},
    load::{occupy, occupy_for, pending, rounds},
    onnx,
    server::{Server, eventually},
};

/// Time enough to do what a test does while the instance is busy.
const BUSY: Duration = Duration::from_secs(5);

fn start(config: &str) -> (TempDir, Server) {
    let repository = TempDir::new().unwrap();
    onnx::slow().save(&repository.path().join("slow/1/model.onnx"));
    fs::write(repository.path().join("slow/config.toml"), config).unwrap();
    let server = Server::start(repository.path());
    (repository, server)
}

fn quick(number: i64) -> onnxd::api::grpc::proto::ModelInferRequest {
    raw_request("slow", "iterations", "INT64", &[1, 1], int64_bytes(&[number]))
}

const QUICK_JSON: &str = r#"{"inputs":[{"name":"iterations","shape":[1,1],"datatype":"INT64","data":[1]}]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once_and_the_accepted_go_on() {
    let (_repository, server) = start("max_queue_size = 4");
    let running = occupy(&server, BUSY).await;
    let client = inference(&server).await;
    let mut accepted = Vec::new();
    for number in 1..=4 {
        let client = client.clone();
        accepted.push(tokio::spawn(async move { infer(&client, quick(number)).await }));
    }
    pending(&server, 5.0).await;
    for waiting in ["requests", "requests_limit", "rows"] {
        assert_eq!(metric(&server, &format!("onnxd_queued_{waiting}"), &[]).await, 4.0, "{waiting}");
    }
    for _ in 0..10 {
        let error = infer(&client, quick(1)).await.unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted);
        assert!(error.message().contains("the queue of model 'slow' version 1 is full"), "{error}");
    }
    let answer = post(server.http, "/v2/models/slow/infer", QUICK_JSON).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(answer.error().contains("is full"));
    assert!(!running.is_finished(), "refused while the instance was busy");
    for (number, request) in (1..).zip(accepted) {
        assert_eq!(int64s(&request.await.unwrap().unwrap()), [number]);
    }
    assert!(running.await.unwrap().is_ok());
    assert_eq!(metric(&server, "onnxd_requests_total", &["code=\"resource_exhausted\""]).await, 11.0);
    assert_eq!(metric(&server, "onnxd_rejected_requests_total", &["reason=\"queue_full\""]).await, 11.0);
    assert_eq!(metric(&server, "onnxd_queued_rows", &[]).await, 0.0);
    assert_eq!(metric(&server, "nv_inference_request_failure", &["reason=\"REJECTED\""]).await, 11.0);
    assert!(infer(&client, quick(1)).await.is_ok(), "there is room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_and_expired_requests_never_run() {
    // Measured on another server: this one is not to know how long runs take, or it would refuse who has little time.
    let long = rounds(&start("").1, BUSY).await;
    let (_repository, server) = start("");
    let running = occupy_for(&server, long).await;
    let ran_before = metric(&server, "onnxd_rows_total", &[]).await;
    let client = inference(&server).await;

    // Clients that go: three over gRPC, one over HTTP.
    let mut leaving = Vec::new();
    for _ in 0..3 {
        let client = client.clone();
        leaving.push(tokio::spawn(async move { infer(&client, quick(1)).await }));
    }
    let mut connection = TcpStream::connect(server.http).unwrap();
    let length = QUICK_JSON.len();
    write!(
        connection,
        "POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{QUICK_JSON}"
    )
    .unwrap();
    pending(&server, 5.0).await;
    leaving.iter().for_each(tokio::task::JoinHandle::abort);
    drop(connection);
    let cancelled = async || metric(&server, "onnxd_requests_total", &["code=\"cancelled\""]).await;
    eventually("four are cancelled", async || cancelled().await == 4.0).await;

    // Deadlines that pass: by gRPC's header, by the parameter over gRPC and over HTTP.
    let late = async || metric(&server, "onnxd_requests_total", &["code=\"deadline_exceeded\""]).await;
    let given_up = async || cancelled().await + late().await;
    // tonic's client knows the deadline too, and may give up before it has sent anything.
    eventually("a request with a header has come", async || {
        let mut with_header = tonic::Request::new(quick(1));
        with_header.set_timeout(Duration::from_millis(30));
        let error = client.clone().model_infer(with_header).await.unwrap_err();
        assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&error.code()), "{error}");
        given_up().await > 4.0
    })
    .await;
    let mut with_parameter = quick(1);
    let timeout = onnxd::api::grpc::proto::infer_parameter::ParameterChoice::Int64Param(30_000);
    with_parameter
        .parameters
        .insert("timeout".into(), onnxd::api::grpc::proto::InferParameter { parameter_choice: Some(timeout) });
    let error = infer(&client, with_parameter).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(error.message().contains("model 'slow' version 1"), "{error}");
    let body = QUICK_JSON.replacen('{', r#"{"parameters":{"timeout":30000},"#, 1);
    assert_eq!(post(server.http, "/v2/models/slow/infer", body).await.status, StatusCode::GATEWAY_TIMEOUT);

    // One that stays, behind them all.
    assert!(!running.is_finished(), "all that happened while the instance was busy");
    assert_eq!(int64s(&infer(&client, quick(7)).await.unwrap()), [7]);
    assert!(running.await.unwrap().is_ok());
    assert_eq!(
        metric(&server, "onnxd_rows_total", &[]).await,
        ran_before + 2.0,
        "the busy one and the one that stayed"
    );
    let rejected = async |reason| metric(&server, "onnxd_rejected_requests_total", &[reason]).await;
    let (gone, late) = (rejected("reason=\"cancelled\"").await, rejected("reason=\"deadline\"").await);
    assert!(gone >= 4.0 && late >= 2.0 && gone + late >= 7.0, "{gone} and {late}");
    assert_eq!(gone + late, given_up().await, "whoever gave up was dropped from the queue");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_requests_that_nobody_wants_is_not_full() {
    let (_repository, server) = start("max_queue_size = 2");
    let running = occupy(&server, BUSY).await;
    let client = inference(&server).await;
    for _ in 0..3 {
        let leaving: Vec<_> = (0..2)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { infer(&client, quick(1)).await })
            })
            .collect();
        pending(&server, 3.0).await;
        leaving.iter().for_each(tokio::task::JoinHandle::abort);
        pending(&server, 1.0).await;
    }
    assert!(!running.is_finished());
    assert_eq!(int64s(&infer(&client, quick(7)).await.unwrap()), [7]);
    assert_eq!(metric(&server, "onnxd_requests_total", &["code=\"resource_exhausted\""]).await, 0.0);
    assert_eq!(metric(&server, "onnxd_requests_total", &["code=\"cancelled\""]).await, 6.0);
}
