//! Settings of a model's batching: the proof by default, a probe, the user's word, or none.

use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::graphs;
use crate::support::{
    client::{float_bytes, floats, get, infer, inference, metric, raw_request},
    onnx::{self, Graph},
    server::Server,
};

/// Columns of [`graphs::first_of_sequence`] are independent rows, its rows are not.
const COLUMNS: i64 = 1;
const ROWS: i64 = 0;

/// A server of one model with a setting of its batching, and what its metadata says of it.
async fn serve(graph: Graph, batching: &str) -> (TempDir, Server, String) {
    let repository = TempDir::new().unwrap();
    graphs::save(graph, repository.path(), "m", batching);
    let server = Server::start(repository.path());
    let metadata: Value = get(server.http, "/v2/models/m").await.json();
    let reported = metadata["properties"]["batching"].as_str().unwrap_or_default().to_owned();
    (repository, server, reported)
}

/// Batches that eight requests of one row each took.
async fn batches(server: &Server) -> f64 {
    let client = inference(server).await;
    let mut tasks = JoinSet::new();
    for number in 0..8 {
        let client = client.clone();
        let request = raw_request("m", "x", "FP32", &[1, 2], float_bytes(&[number as f32, 9.0]));
        tasks.spawn(async move { floats(&infer(&client, request).await.unwrap()) });
    }
    assert_eq!(tasks.join_all().await.len(), 8);
    metric(server, "onnxd_batch_rows_count", &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn unproven_models_are_batched_where_a_probe_may_decide() {
    let waiting = "max_batch_size = 8\nmax_queue_delay = \"1h\"\nmax_queue_time = \"none\"\n";
    let (_repository, server, reported) = serve(graphs::first_of_sequence(COLUMNS), waiting).await;
    assert!(reported.starts_with("off: it is not proven that rows are independent: SplitToSequence"), "{reported}");
    assert!(reported.contains("batching = \"probed\" in config.toml"), "{reported}");
    assert_eq!(batches(&server).await, 8.0);

    let probed = format!("batching = \"probed\"\n{waiting}");
    let (_repository, server, reported) = serve(graphs::first_of_sequence(COLUMNS), &probed).await;
    assert_eq!(reported, "on: up to 8 rows");
    assert_eq!(batches(&server).await, 1.0);

    let (_repository, server, reported) = serve(graphs::first_of_sequence(ROWS), &probed).await;
    assert!(reported.starts_with("off: "), "{reported}");
    assert_eq!(batches(&server).await, 8.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn batching_on_batches_a_mixing_model_with_a_warning() {
    let config = "batching = \"on\"\nmax_batch_size = 8\nmax_queue_delay = \"1h\"\nmax_queue_time = \"none\"\n";
    for graph in [onnx::across_rows(), graphs::first_of_sequence(ROWS)] {
        let (_repository, server, reported) = serve(graph, config).await;
        assert_eq!(reported, "on: up to 8 rows");
        server.wait_for_log(|line| {
            let text = line.to_string();
            line["level"] == "WARN" && text.contains("batching = \\\"on\\\"") && text.contains("\"m\"")
        });
        assert_eq!(batches(&server).await, 1.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batching_off_keeps_models_unbatched() {
    for graph in [onnx::add(1.0), graphs::first_of_sequence(COLUMNS)] {
        let (_repository, server, reported) = serve(graph, "batching = \"off\"\nmax_queue_time = \"none\"\n").await;
        assert!(reported.starts_with("off: ") && reported.contains("config.toml"), "{reported}");
        assert_eq!(batches(&server).await, 8.0);
    }
}
