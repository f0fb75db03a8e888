//! Requests that would be answered too late are refused at once, and the important ones go first.

use http::StatusCode;
use onnxd::api::proto::{
    InferParameter, ModelInferRequest, grpc_inference_service_client::GrpcInferenceServiceClient,
    infer_parameter::ParameterChoice,
};
use std::{fs, time::Duration};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};
use tonic::{Code, Request, Status, transport::Channel};

use crate::support::{
    client::{infer, inference, int64s, metric, post, post_with},
    load::{Endless, NO_TIME_LIMITS, measure, occupy, queued, request, runs, runs_begun},
    onnx,
    server::{Server, WAIT_TIMEOUT, eventually},
};

type Client = GrpcInferenceServiceClient<Channel>;

const PATH: &str = "/v2/models/slow/infer";

fn start(config: &str, options: &[&str]) -> (TempDir, Server) {
    let repository = TempDir::new().unwrap();
    onnx::slow().save(&repository.path().join("slow/1/model.onnx"));
    fs::write(repository.path().join("slow/config.toml"), config).unwrap();
    let server = Server::start_with(repository.path(), options);
    (repository, server)
}

fn with(mut request: ModelInferRequest, parameter: &str, value: u64) -> ModelInferRequest {
    let parameter_choice = Some(ParameterChoice::Uint64Param(value));
    request.parameters.insert(parameter.into(), InferParameter { parameter_choice });
    request
}

fn json(parameters: &str) -> String {
    let input = r#"{"name":"iterations","shape":[1,1],"datatype":"INT64","data":[1]}"#;
    format!(r#"{{"parameters":{{{parameters}}},"inputs":[{input}]}}"#)
}

fn send(client: &Client, request: ModelInferRequest) -> JoinHandle<Result<i64, Status>> {
    let client = client.clone();
    tokio::spawn(async move { infer(&client, request).await.map(|answer| int64s(&answer)[0]) })
}

async fn rejected(server: &Server, reason: &str) -> f64 {
    metric(server, "onnxd_rejected_requests_total", &[&format!("reason=\"{reason}\"")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_would_be_late_are_refused_at_once() {
    const WAITING: usize = 200;
    let (_repository, server) = start("batching = \"off\"", &NO_TIME_LIMITS);
    let client = inference(&server).await;
    // The prediction is made of the runs before it. These are as long as the longest of them.
    let long = measure(&server).await.rounds;
    for _ in 0..8 {
        infer(&client, request(long)).await.unwrap();
    }
    let busy = occupy(&server).await;
    let waiting: Vec<_> = (0..WAITING).map(|_| send(&client, request(1))).collect();
    queued(&server, WAITING as f64).await;
    // Half of the predicted time is too little, whatever that is.
    let predicted = metric(&server, "onnxd_predicted_queue_seconds", &[]).await;
    assert!(predicted > 0.0);
    let timeout = (predicted / 2.0 * 1e6) as u64;

    let error = infer(&client, with(request(1), "timeout", timeout)).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    assert!(error.message().contains("model 'slow' version 1 is overloaded: its answer is predicted in"), "{error}");
    let answer = post(server.http, PATH, json(&format!("\"timeout\":{timeout}"))).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(answer.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() >= 1);
    assert!(answer.error().contains("the request's deadline is in"), "{answer:?}");
    assert_eq!(rejected(&server, "predicted_late").await, 2.0);

    // Requests with more time are let in, and those without a deadline.
    let patient = send(&client, with(request(7), "timeout", 3_600_000_000));
    queued(&server, 1.0 + WAITING as f64).await;
    busy.release().await;
    assert_eq!(patient.await.unwrap().unwrap(), 7);
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().unwrap(), 1);
    }
    assert_eq!(metric(&server, "onnxd_predicted_queue_seconds", &[]).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_wait_no_longer_than_the_queue_time() {
    const LATER: usize = 100;
    let limit = Duration::from_millis(20);
    // Only the first level has the limit: a slow machine may take longer to begin a run, though the instance is free.
    let config = "batching = \"off\"\npriority_levels = 2\n[priority.2]\nmax_queue_time = \"none\"";
    let (_repository, server) = start(config, &["--max-run-time", "0s", "--max-queue-time", "20ms"]);
    let limited = || with(request(1), "priority", 1);
    measure(&server).await;
    let client = inference(&server).await;
    let busy = occupy(&server).await;
    let first = send(&client, limited());
    queued(&server, 1.0).await;
    // Each that is let in makes the wait of the next one longer.
    let later: Vec<_> = (0..LATER).map(|_| send(&client, limited())).collect();
    eventually("each is refused or waits", async || {
        // In this order none is counted twice.
        let refused = rejected(&server, "queue_time").await;
        refused + metric(&server, "onnxd_queued_requests", &[]).await == 1.0 + LATER as f64
    })
    .await;
    assert!(rejected(&server, "queue_time").await > 0.0, "some are refused at once");
    // Requests that wait now have waited too long then.
    tokio::time::sleep(2 * limit).await;
    busy.release().await;
    let error = first.await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(error.message().contains("has waited") && error.message().contains("max_queue_time"), "{error}");
    for later in later {
        let error = later.await.unwrap().unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted);
        let expected = ["max_queue_time = \"20ms\" leaves no room", "longer than max_queue_time"];
        assert!(expected.iter().any(|expected| error.message().contains(expected)), "{error}");
    }
    assert_eq!(rejected(&server, "queue_time").await, 1.0 + LATER as f64);
    assert_eq!(int64s(&infer(&client, request(7)).await.unwrap()), [7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn higher_priority_level_goes_first_and_finds_room() {
    let config = "batching = \"off\"\nmax_queue_size = 3\npriority_levels = 2\n[priority.1]\nmax_queue_size = 2";
    let (_repository, server) = start(config, &NO_TIME_LIMITS);
    let client = inference(&server).await;
    let busy = occupy(&server).await;
    // Without a level, with the lowest, and with one that there is not.
    let low_busy = Endless::send(&client);
    queued(&server, 1.0).await;
    let low = [2, 9].map(|level| send(&client, with(request(level), "priority", level as u64)));
    queued(&server, 3.0).await;
    for refused in [request(4), with(request(4), "priority", 0)] {
        let error = infer(&client, refused).await.unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted);
        assert!(error.message().contains("is full: 3 requests wait"), "{error}");
    }

    // The higher level has room of its own, however it is given.
    let parameter = send(&client, with(request(5), "priority", 1));
    let mut with_metadata = Request::new(request(6));
    with_metadata.metadata_mut().insert("onnxd-priority", "1".parse().unwrap());
    let mut sender = client.clone();
    let metadata = tokio::spawn(async move { sender.model_infer(with_metadata).await });
    queued(&server, 5.0).await;
    let header = [("onnxd-priority", "1".to_owned())];
    let answer = post_with(server.http, PATH, &header, json("")).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(answer.error().contains("is full: 2 requests wait"), "{answer:?}");

    let begun = runs_begun(&server).await;
    busy.release().await;
    // The first of the lower level does not end: had it gone first, the higher level would not be answered.
    let higher = async { (parameter.await.unwrap().unwrap(), metadata.await.unwrap().unwrap().into_inner()) };
    let (parameter, metadata) = timeout(WAIT_TIMEOUT, higher).await.expect("the lower level goes first");
    assert_eq!((parameter, int64s(&metadata)), (5, vec![6]));
    runs(&server, begun + 3.0).await;
    // The request's own parameter counts.
    let address = server.http;
    let higher = tokio::spawn(async move { post_with(address, PATH, &header, json("\"priority\":1")).await });
    queued(&server, 3.0).await;
    low_busy.release().await;
    let answer = higher.await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    for (low, expected) in low.into_iter().zip([2, 9]) {
        assert_eq!(low.await.unwrap().unwrap(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn priority_is_validated_and_ignored_without_levels() {
    let (_repository, server) = start("", &[]);
    let client = inference(&server).await;
    for level in [0, 1, u64::MAX] {
        assert_eq!(int64s(&infer(&client, with(request(1), "priority", level)).await.unwrap()), [1]);
    }
    let answer = post(server.http, PATH, json("\"priority\":-1")).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.error().contains("parameter 'priority' must be an integer of at least 0, got -1"), "{answer:?}");
    for header in ["high", "-1", "+1", "1.0", "99999999999999999999"] {
        let answer = post_with(server.http, PATH, &[("onnxd-priority", header.to_owned())], json("")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{header}");
        let expected = format!("the header onnxd-priority must be an integer of at least 0, got '{header}'");
        assert!(answer.error().contains(&expected), "{answer:?}");
    }
}
