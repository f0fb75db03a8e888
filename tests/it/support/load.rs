//! Runs of the model `slow` ([`super::onnx::slow`]): endless ones that keep an instance busy until a test releases it, and
//! measured ones.

use onnxd::api::proto::{
    ModelInferRequest, ModelInferResponse, grpc_inference_service_client::GrpcInferenceServiceClient,
};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tonic::{Status, transport::Channel};

use super::{
    client::{infer, inference, int64_bytes, metric, raw_request},
    server::{Server, eventually},
};

/// Options of a server on which requests may run and wait for as long as a test needs, however slow the machine.
pub const NO_TIME_LIMITS: [&str; 4] = ["--max-run-time", "0s", "--max-queue-time", "none"];

/// A request for so many rounds.
pub fn request(rounds: i64) -> ModelInferRequest {
    raw_request("slow", "iterations", "INT64", &[1, 1], int64_bytes(&[rounds]))
}

/// A request whose run does not end by itself. The server stops the run once the call is cancelled.
pub struct Endless {
    call: JoinHandle<Result<ModelInferResponse, Status>>,
}

impl Endless {
    /// Sends an endless request.
    pub fn send(client: &GrpcInferenceServiceClient<Channel>) -> Self {
        let client = client.clone();
        Endless { call: tokio::spawn(async move { infer(&client, request(i64::MAX)).await }) }
    }

    /// Cancels the call. Fails if the server has ended the run before: then it did not go on for all that time.
    pub async fn release(self) {
        self.call.abort();
        match self.call.await {
            Err(error) if error.is_cancelled() => {}
            ended => panic!("an endless run ended before it was released: {ended:?}"),
        }
    }

    /// The status with which the server ends the call.
    pub async fn status(self) -> Status {
        self.call.await.unwrap().unwrap_err()
    }
}

/// Keeps the only instance of `slow` busy until the request is released. Returns once it runs. The server should have
/// [`NO_TIME_LIMITS`].
pub async fn occupy(server: &Server) -> Endless {
    let before = runs_begun(server).await;
    let endless = Endless::send(&inference(server).await);
    runs(server, before + 1.0).await;
    endless
}

/// Number of requests for `slow` that have left the queue to run.
pub async fn runs_begun(server: &Server) -> f64 {
    metric(server, "onnxd_queue_duration_seconds_count", &["model=\"slow\""]).await
}

/// Waits until that many requests for `slow` have left the queue to run.
pub async fn runs(server: &Server, begun: f64) {
    eventually("the run begins", async || runs_begun(server).await >= begun).await;
}

/// A run that was measured on this machine.
pub struct MeasuredRun {
    pub rounds: i64,
    pub time: Duration,
}

impl MeasuredRun {
    /// Rounds of a run that takes about `duration`: longer where others want the CPU.
    pub fn rounds_of(&self, duration: Duration) -> i64 {
        (self.rounds as f64 * duration.as_secs_f64() / self.time.as_secs_f64()) as i64
    }
}

/// Has the server run longer and longer requests until one takes more than 50 ms. CPU time that others take meanwhile does not
/// count.
pub async fn measure(server: &Server) -> MeasuredRun {
    let client = inference(server).await;
    let mut rounds = 100;
    loop {
        let (before, started) = (cpu_time(server).await, Instant::now());
        infer(&client, request(rounds)).await.unwrap();
        let time = started.elapsed().min(cpu_time(server).await.saturating_sub(before));
        if time > Duration::from_millis(50) {
            return MeasuredRun { rounds, time };
        }
        rounds *= 4;
    }
}

async fn cpu_time(server: &Server) -> Duration {
    Duration::from_secs_f64(metric(server, "process_cpu_seconds_total", &[]).await)
}

/// Waits until that many requests wait or run.
pub async fn pending(server: &Server, requests: f64) {
    eventually("requests are pending", async || metric(server, "onnxd_requests_in_flight", &[]).await == requests)
        .await;
}

/// Waits until that many requests are in queues. Those whose clients have gone count until the queue drops them.
pub async fn queued(server: &Server, requests: f64) {
    eventually("requests are queued", async || metric(server, "onnxd_queued_requests", &[]).await == requests).await;
}
