//! Too much at once is answered, and work that nobody waits for is never done.

use http::StatusCode;
use std::{fs, io::Write, net::TcpStream, time::Duration};
use tempfile::TempDir;
use tonic::Code;

use crate::support::{
    client::{infer, inference, int64s, metric, post},
    load::{NO_TIME_LIMITS, occupy, pending, queued, request},
    onnx,
    server::{Server, eventually},
};

fn start(config: &str) -> (TempDir, Server) {
    let repository = TempDir::new().unwrap();
    onnx::slow().save(&repository.path().join("slow/1/model.onnx"));
    fs::write(repository.path().join("slow/config.toml"), config).unwrap();
    let server = Server::start_with(repository.path(), &NO_TIME_LIMITS);
    (repository, server)
}

const QUICK_JSON: &str = r#"{"inputs":[{"name":"iterations","shape":[1,1],"datatype":"INT64","data":[1]}]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn full_queue_rejects_at_once_and_serves_the_accepted() {
    let (_repository, server) = start("max_queue_size = 4");
    let busy = occupy(&server).await;
    let client = inference(&server).await;
    let mut accepted = Vec::new();
    for number in 1..=4 {
        let client = client.clone();
        accepted.push(tokio::spawn(async move { infer(&client, request(number)).await }));
    }
    queued(&server, 4.0).await;
    for waiting in ["requests", "requests_limit", "rows"] {
        assert_eq!(metric(&server, &format!("onnxd_queued_{waiting}"), &[]).await, 4.0, "{waiting}");
    }
    for _ in 0..10 {
        let error = infer(&client, request(1)).await.unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted);
        assert!(error.message().contains("the queue of model 'slow' version 1 is full"), "{error}");
    }
    let answer = post(server.http, "/v2/models/slow/infer", QUICK_JSON).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(answer.error().contains("is full"));
    busy.release().await;
    for (number, request) in (1..).zip(accepted) {
        assert_eq!(int64s(&request.await.unwrap().unwrap()), [number]);
    }
    assert_eq!(metric(&server, "onnxd_requests_total", &["code=\"resource_exhausted\""]).await, 11.0);
    assert_eq!(metric(&server, "onnxd_rejected_requests_total", &["reason=\"queue_full\""]).await, 11.0);
    assert_eq!(metric(&server, "onnxd_queued_rows", &[]).await, 0.0);
    assert_eq!(metric(&server, "nv_inference_request_failure", &["reason=\"REJECTED\""]).await, 11.0);
    assert!(infer(&client, request(1)).await.is_ok(), "there is room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_and_expired_requests_never_run() {
    let (_repository, server) = start("");
    // No run has ended before: the server does not know how long runs take, or it would refuse requests with little time.
    let busy = occupy(&server).await;
    let ran_before = metric(&server, "onnxd_rows_total", &[]).await;
    let client = inference(&server).await;

    // Clients that go: three over gRPC, one over HTTP.
    let mut leaving = Vec::new();
    for _ in 0..3 {
        let client = client.clone();
        leaving.push(tokio::spawn(async move { infer(&client, request(1)).await }));
    }
    let mut connection = TcpStream::connect(server.http).unwrap();
    let length = QUICK_JSON.len();
    write!(
        connection,
        "POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{QUICK_JSON}"
    )
    .unwrap();
    queued(&server, 4.0).await;
    leaving.iter().for_each(tokio::task::JoinHandle::abort);
    drop(connection);
    let cancelled = async || metric(&server, "onnxd_requests_total", &["code=\"cancelled\""]).await;
    eventually("four are cancelled", async || cancelled().await == 4.0).await;

    // Deadlines that pass: by gRPC's header, by the parameter over gRPC and over HTTP.
    let late = async || metric(&server, "onnxd_requests_total", &["code=\"deadline_exceeded\""]).await;
    let given_up = async || cancelled().await + late().await;
    // tonic's client knows the deadline too, and may give up before it has sent anything.
    eventually("a request with a header has come", async || {
        let mut with_header = tonic::Request::new(request(1));
        with_header.set_timeout(Duration::from_millis(30));
        let error = client.clone().model_infer(with_header).await.unwrap_err();
        assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&error.code()), "{error}");
        given_up().await > 4.0
    })
    .await;
    let mut with_parameter = request(1);
    let timeout = onnxd::api::proto::infer_parameter::ParameterChoice::Int64Param(30_000);
    with_parameter
        .parameters
        .insert("timeout".into(), onnxd::api::proto::InferParameter { parameter_choice: Some(timeout) });
    let error = infer(&client, with_parameter).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(error.message().contains("model 'slow' version 1"), "{error}");
    let body = QUICK_JSON.replacen('{', r#"{"parameters":{"timeout":30000},"#, 1);
    assert_eq!(post(server.http, "/v2/models/slow/infer", body).await.status, StatusCode::GATEWAY_TIMEOUT);

    // One that stays, behind them all.
    let in_queue = metric(&server, "onnxd_queued_requests", &[]).await;
    let stays = tokio::spawn(async move { infer(&client, request(7)).await });
    queued(&server, in_queue + 1.0).await;
    busy.release().await;
    assert_eq!(int64s(&stays.await.unwrap().unwrap()), [7]);
    assert_eq!(
        metric(&server, "onnxd_rows_total", &[]).await,
        ran_before + 2.0,
        "the busy one and the one that stayed"
    );
    let rejected = async |reason| metric(&server, "onnxd_rejected_requests_total", &[reason]).await;
    let (gone, late) = (rejected("reason=\"cancelled\"").await, rejected("reason=\"deadline\"").await);
    assert!(gone >= 4.0 && late >= 2.0 && gone + late >= 7.0, "{gone} and {late}");
    // The busy one was cancelled in its run.
    assert_eq!(gone + late, given_up().await - 1.0, "whoever gave up was dropped from the queue");
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_of_cancelled_requests_is_not_full() {
    let (_repository, server) = start("max_queue_size = 2");
    let busy = occupy(&server).await;
    let client = inference(&server).await;
    for _ in 0..3 {
        let leaving: Vec<_> = (0..2)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { infer(&client, request(1)).await })
            })
            .collect();
        pending(&server, 3.0).await;
        leaving.iter().for_each(tokio::task::JoinHandle::abort);
        pending(&server, 1.0).await;
    }
    assert_eq!(metric(&server, "onnxd_requests_total", &["code=\"cancelled\""]).await, 6.0);
    busy.release().await;
    assert_eq!(int64s(&infer(&client, request(7)).await.unwrap()), [7]);
    assert_eq!(metric(&server, "onnxd_requests_total", &["code=\"resource_exhausted\""]).await, 0.0);
}
