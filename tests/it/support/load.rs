//! Keeping an instance busy for as long as a test needs.

use onnxd::api::grpc::proto::{ModelInferRequest, ModelInferResponse};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tonic::Status;

use super::{
    client::{infer, inference, int64_bytes, metric, raw_request},
    server::{Server, eventually},
};

fn request(rounds: i64) -> ModelInferRequest {
    raw_request("slow", "iterations", "INT64", &[1, 1], int64_bytes(&[rounds]))
}

/// How many rounds keep the model `slow` ([`super::onnx::slow`]) busy for about `duration`, measured on this machine: where others
/// want the CPU, for longer. That they do while it is measured does not make it shorter.
pub async fn rounds(server: &Server, duration: Duration) -> i64 {
    let client = inference(server).await;
    let mut rounds = 100;
    loop {
        let (before, started) = (cpu_time(server).await, Instant::now());
        infer(&client, request(rounds)).await.unwrap();
        let took = started.elapsed().min(cpu_time(server).await.saturating_sub(before));
        if took > Duration::from_millis(50) {
            return (rounds as f64 * duration.as_secs_f64() / took.as_secs_f64()) as i64;
        }
        rounds *= 4;
    }
}

/// A request that runs on the only instance of the model `slow` for about `duration`. Returns once it runs.
pub async fn occupy(server: &Server, duration: Duration) -> JoinHandle<Result<ModelInferResponse, Status>> {
    let rounds = rounds(server, duration).await;
    occupy_for(server, rounds).await
}

/// The same for so many rounds. The server has measured no run before it: it refuses nobody for what it predicts.
pub async fn occupy_for(server: &Server, rounds: i64) -> JoinHandle<Result<ModelInferResponse, Status>> {
    let client = inference(server).await;
    let before = left_queue(server).await;
    let running = tokio::spawn(async move { infer(&client, request(rounds)).await });
    eventually("the request runs", async || left_queue(server).await > before).await;
    running
}

async fn cpu_time(server: &Server) -> Duration {
    Duration::from_secs_f64(metric(server, "process_cpu_seconds_total", &[]).await)
}

async fn left_queue(server: &Server) -> f64 {
    metric(server, "onnxd_queue_duration_seconds_count", &["model=\"slow\""]).await
}

/// Waits until so many requests wait or run.
pub async fn pending(server: &Server, requests: f64) {
    eventually("requests are pending", async || metric(server, "onnxd_requests_in_flight", &[]).await == requests)
        .await;
}
