//! Requests that would be answered too late are refused at once, and the important ones go first.

use http::StatusCode;
use onnxd::api::grpc::proto::{InferParameter, ModelInferRequest, infer_parameter::ParameterChoice};
use std::{fs, time::Duration};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::{Code, Request, Status};

use crate::support::{
    client::{infer, inference, int64_bytes, int64s, metric, post, post_with, raw_request},
    load::{occupy, pending, rounds},
    onnx,
    server::{Server, eventually},
};

/// Time enough to do what a test does while the instance is busy.
const BUSY: Duration = Duration::from_secs(5);

const PATH: &str = "/v2/models/slow/infer";

fn start(config: &str, options: &[&str]) -> (TempDir, Server) {
    let repository = TempDir::new().unwrap();
    onnx::slow().save(&repository.path().join("slow/1/model.onnx"));
    fs::write(repository.path().join("slow/config.toml"), config).unwrap();
    let server = Server::start_with(repository.path(), options);
    (repository, server)
}

fn request(rounds: i64) -> ModelInferRequest {
    raw_request("slow", "iterations", "INT64", &[1, 1], int64_bytes(&[rounds]))
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

async fn send(server: &Server, request: ModelInferRequest) -> JoinHandle<Result<i64, Status>> {
    let client = inference(server).await;
    tokio::spawn(async move { infer(&client, request).await.map(|answer| int64s(&answer)[0]) })
}

async fn rejected(server: &Server, reason: &str) -> f64 {
    metric(server, "onnxd_rejected_requests_total", &[&format!("reason=\"{reason}\"")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_would_be_late_are_refused_at_once() {
    let (_repository, server) = start("batching = \"off\"", &["--max-queue-time", "none"]);
    // What this needs to find out how long to run is what is measured.
    let running = occupy(&server, BUSY).await;
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(send(&server, request(1)).await);
    }
    pending(&server, 21.0).await;
    assert!(metric(&server, "onnxd_predicted_queue_seconds", &[]).await > 0.1);

    let client = inference(&server).await;
    let error = infer(&client, with(request(1), "timeout", 100_000)).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    assert!(error.message().contains("model 'slow' version 1 is overloaded: its answer is predicted in"), "{error}");
    let answer = post(server.http, PATH, json("\"timeout\":100000")).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(answer.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() >= 1);
    assert!(answer.error().contains("the request's deadline is in"), "{answer:?}");
    assert_eq!(rejected(&server, "predicted_late").await, 2.0);
    assert!(!running.is_finished(), "refused while the instance was busy");

    // Who has more time is let in, and who has no deadline.
    let patient = send(&server, with(request(7), "timeout", 3_600_000_000)).await;
    assert_eq!(patient.await.unwrap().unwrap(), 7);
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().unwrap(), 1);
    }
    assert_eq!(metric(&server, "onnxd_predicted_queue_seconds", &[]).await, 0.0);
    assert!(running.await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_wait_no_longer_than_the_queue_time() {
    let (_repository, server) = start("batching = \"off\"", &["--max-queue-time", "20ms"]);
    let running = occupy(&server, BUSY).await;
    let first = send(&server, request(1)).await;
    pending(&server, 2.0).await;
    let client = inference(&server).await;
    // Each that is let in makes the wait of the next one longer.
    let mut later = Vec::new();
    for _ in 0..100 {
        later.push(send(&server, request(1)).await);
    }
    eventually("some are refused", async || rejected(&server, "queue_time").await >= 10.0).await;
    assert!(!running.is_finished(), "refused while the instance was busy");
    let error = first.await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(error.message().contains("has waited") && error.message().contains("max_queue_time"), "{error}");
    assert!(running.await.unwrap().is_ok());
    for later in later {
        let error = later.await.unwrap().unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted);
        let expected = ["max_queue_time = \"20ms\" leaves no room", "longer than max_queue_time"];
        assert!(expected.iter().any(|expected| error.message().contains(expected)), "{error}");
    }
    assert_eq!(rejected(&server, "queue_time").await, 101.0);
    assert_eq!(int64s(&infer(&client, request(7)).await.unwrap()), [7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_higher_level_goes_first_and_finds_room() {
    let config = "batching = \"off\"\nmax_queue_size = 3\npriority_levels = 2\n[priority.1]\nmax_queue_size = 2";
    let (_repository, server) = start(config, &[]);
    let long = rounds(&server, BUSY).await;
    let running = occupy(&server, BUSY).await;
    // Without a level, with the lowest, and with one that there is not.
    let mut low = vec![send(&server, request(long)).await];
    low.push(send(&server, with(request(2), "priority", 2)).await);
    low.push(send(&server, with(request(3), "priority", 9)).await);
    pending(&server, 4.0).await;
    let client = inference(&server).await;
    for refused in [request(4), with(request(4), "priority", 0)] {
        let error = infer(&client, refused).await.unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted);
        assert!(error.message().contains("is full: 3 requests wait"), "{error}");
    }

    // The higher level has room of its own, however it is given.
    let parameter = send(&server, with(request(5), "priority", 1)).await;
    let mut with_metadata = Request::new(request(6));
    with_metadata.metadata_mut().insert("onnxd-priority", "1".parse().unwrap());
    let mut sender = client.clone();
    let metadata = tokio::spawn(async move { sender.model_infer(with_metadata).await });
    pending(&server, 6.0).await;
    let header = [("onnxd-priority", "1".to_owned())];
    let answer = post_with(server.http, PATH, &header, json("")).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(answer.error().contains("is full: 2 requests wait"), "{answer:?}");
    assert!(!running.is_finished(), "all that happened while the instance was busy");

    assert!(running.await.unwrap().is_ok());
    assert_eq!(parameter.await.unwrap().unwrap(), 5);
    assert_eq!(int64s(&metadata.await.unwrap().unwrap().into_inner()), [6]);
    assert!(low.iter().all(|low| !low.is_finished()), "the lower level went first");
    // What the request itself says counts.
    let answer = post_with(server.http, PATH, &header, json("\"priority\":1")).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    for (low, expected) in low.into_iter().zip([long, 2, 3]) {
        assert_eq!(low.await.unwrap().unwrap(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn priorities_that_are_none_are_refused_and_others_ignored_without_levels() {
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
