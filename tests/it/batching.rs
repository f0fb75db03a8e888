//! Requests that come together run together, and nobody notices but the machine.

use std::{sync::Arc, time::Duration};
use tempfile::TempDir;

use crate::support::{
    client::{channel, float_bytes, floats, infer, inference, int64_bytes, int64s, metric, raw_request},
    onnx,
    server::{Server, eventually},
};

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_rows_share_batches_and_keep_their_answers() {
    let repository = TempDir::new().unwrap();
    onnx::mlp(&[32, 64, 64, 2]).save(&repository.path().join("mlp/1/model.onnx"));
    let server = Arc::new(Server::start(repository.path()));
    let row = |seed: usize| -> Vec<f32> {
        (0..32)
            .map(|index| ((seed * 31 + index * 17) % 101) as f32 / 101.0)
            .collect()
    };
    let alone = inference(&server).await;
    let mut expected = Vec::new();
    for seed in 0..64 {
        let answer = infer(
            &alone,
            raw_request("mlp", "x", "FP32", &[1, 32], float_bytes(&row(seed))),
        )
        .await
        .unwrap();
        expected.push(floats(&answer));
    }
    assert_eq!(metric(&server, "onnxd_batch_rows_count", &[]).await, 64.0);
    let client = inference(&server).await;
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..64 {
        let (client, expected) = (client.clone(), expected[seed].clone());
        tasks.spawn(async move {
            for _ in 0..50 {
                let request = raw_request("mlp", "x", "FP32", &[1, 32], float_bytes(&row(seed)));
                let got = floats(&infer(&client, request).await.unwrap());
                for (got, expected) in got.iter().zip(&expected) {
                    assert!(
                        (got - expected).abs() <= 1e-5 + 1e-3 * expected.abs(),
                        "{got} for {expected}"
                    );
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let (rows, batches) = (
        metric(&server, "onnxd_rows_total", &[]).await,
        metric(&server, "onnxd_batch_rows_count", &[]).await,
    );
    assert_eq!(rows, 64.0 * 51.0);
    assert!(batches < rows, "{rows} rows in {batches} batches");
    let _ = (channel(&server).await, Duration::ZERO);
}
