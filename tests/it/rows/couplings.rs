//! Requests of different values at once, to models whose rows meet and to models whose rows are independent.

use onnxd::api::proto::{ModelInferRequest, ModelInferResponse};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tonic::Status;

use super::graphs;
use crate::support::{
    client::{float_bytes, floats, infer, inference, int64_bytes, metric, raw_request},
    onnx::Graph,
    server::Server,
};

/// Requests wait for others: what may be joined is joined.
const DELAY: &str = "max_queue_delay = \"20ms\"\nmax_queue_time = \"none\"\n";

/// Requests at once, and how often.
const REQUESTS: usize = 100;
const ROUNDS: usize = 4;

/// A request for one row of a model; some are unlike the others.
fn request(model: &str, number: usize) -> ModelInferRequest {
    let is_odd_one = number % 10 == 3;
    match model {
        "words" => {
            let text = if is_odd_one { "a text of several words" } else { ["yes", "no", "of two"][number % 3] };
            let mut data = u32::try_from(text.len()).unwrap().to_le_bytes().to_vec();
            data.extend_from_slice(text.as_bytes());
            raw_request(model, "x", "BYTES", &[1], data)
        }
        "embedding" => {
            let id = if is_odd_one { 990 } else { number as i64 % 7 };
            raw_request(model, "x", "INT64", &[1, 2], int64_bytes(&[id, id + 1]))
        }
        _ => {
            let value = if is_odd_one { 200.0 } else { number as f32 / 100.0 };
            raw_request(model, "x", "FP32", &[1, 4], float_bytes(&[value, 0.5, value / 2.0, 0.25]))
        }
    }
}

/// Asks alone for each request, and then for all at once, several times. Fails where an answer differs.
async fn compare(server: &Server, model: &'static str) {
    let client = inference(server).await;
    let mut alone = Vec::new();
    for number in 0..REQUESTS {
        alone.push(infer(&client, request(model, number)).await.unwrap());
    }
    for _ in 0..ROUNDS {
        let mut tasks = JoinSet::new();
        for number in 0..REQUESTS {
            let client = client.clone();
            tasks.spawn(async move { (number, infer(&client, request(model, number)).await) });
        }
        for (number, answer) in tasks.join_all().await {
            assert_like(model, number, &answer, &alone[number]);
        }
    }
}

/// Bytes are equal where elements are no floats; those differ by rounding at most.
fn assert_like(model: &str, number: usize, answer: &Result<ModelInferResponse, Status>, alone: &ModelInferResponse) {
    let answer = answer.as_ref().unwrap_or_else(|status| panic!("{model}: request {number}: {status}"));
    let shapes = |answer: &ModelInferResponse| -> Vec<Vec<i64>> {
        answer.outputs.iter().map(|output| output.shape.clone()).collect()
    };
    assert_eq!(shapes(answer), shapes(alone), "{model}: request {number}");
    if model == "words" {
        assert_eq!(answer.raw_output_contents, alone.raw_output_contents, "{model}: request {number}");
        return;
    }
    for (got, expected) in floats(answer).iter().zip(floats(alone)) {
        assert!(
            (got - expected).abs() <= 1e-5 + 1e-3 * expected.abs(),
            "{model}: request {number}: {got} for {expected}"
        );
    }
}

async fn rows_and_batches(server: &Server, model: &str) -> (f64, f64) {
    let label = format!("model=\"{model}\"");
    let rows = metric(server, "onnxd_rows_total", &[&label]).await;
    (rows, metric(server, "onnxd_batch_rows_count", &[&label]).await)
}

/// Serves models that have requests wait for each other; with their folder, which lasts as long.
fn serve(models: &[(&str, Graph)]) -> (TempDir, Server) {
    let repository = TempDir::new().unwrap();
    for (name, graph) in models {
        graphs::save(graph.clone(), repository.path(), name, DELAY);
    }
    let server = Server::start(repository.path());
    (repository, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn coupled_rows_never_meet() {
    let models: [(&str, Graph); 4] = [
        ("scaled", graphs::scaled_where_any_is_large()),
        ("words", graphs::words_padded_to_longest()),
        ("embedding", graphs::embedding_dynamically_quantized()),
        ("lag", graphs::lag_of_eight_rows()),
    ];
    let (_repository, server) = serve(&models);
    for (name, _) in models {
        compare(&server, name).await;
        let (rows, batches) = rows_and_batches(&server, name).await;
        assert_eq!(batches, (REQUESTS * (ROUNDS + 1)) as f64, "{name}: {rows} rows");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn independent_rows_share_batches() {
    let models: [(&str, Graph); 2] = [("linear", graphs::linear()), ("reshaped", graphs::reshaped_by_its_own_shape())];
    let (_repository, server) = serve(&models);
    for (name, _) in models {
        compare(&server, name).await;
        let (rows, batches) = rows_and_batches(&server, name).await;
        assert!(rows == (REQUESTS * (ROUNDS + 1)) as f64 && batches < rows, "{name}: {rows} rows in {batches} batches");
    }
}
