//! Where an input lies in memory does not change the answer: ONNX Runtime's kernels add in another order where memory is aligned to
//! less than they like.

use serde_json::json;
use std::collections::HashSet;
use tempfile::TempDir;

use crate::support::{
    client::{float_bytes, infer, inference, post_with, raw_request, with_binary},
    onnx::{FLOAT, Graph, node, value},
    server::Server,
};

/// Requests of each kind: fewer than it takes until a run of fixed addresses is kept.
const REQUESTS: usize = 64;

/// The mean of 97 floats, in a repository with these settings.
fn repository(config: &str) -> TempDir {
    let repository = TempDir::new().unwrap();
    let graph = Graph {
        name: "mean".into(),
        node: vec![node("ReduceMean", &["x"], &["y"]).ints("axes", &[1]).int("keepdims", 0)],
        initializer: vec![],
        input: vec![value("x", FLOAT, &["batch", "97"])],
        output: vec![value("y", FLOAT, &["batch"])],
    };
    for model in ["http", "grpc", "both"] {
        graph.clone().save(&repository.path().join(model).join("1/model.onnx"));
        std::fs::write(repository.path().join(model).join("config.toml"), config).unwrap();
    }
    repository
}

/// Numbers of many magnitudes, whose sum depends on the order.
fn numbers() -> Vec<u8> {
    float_bytes(&(0..97).map(|index| ((index * 7919 % 1000) as f32 - 500.0) * 1.234_567e-3).collect::<Vec<_>>())
}

/// The answers to one input behind requests whose ids have many lengths.
async fn answers(server: &Server) -> HashSet<Vec<u8>> {
    let mut answers = HashSet::new();
    let client = inference(server).await;
    for length in 0..REQUESTS {
        let id = "i".repeat(length);
        let mut request = raw_request("grpc", "x", "FP32", &[1, 97], numbers());
        request.id = id.clone();
        answers.insert(infer(&client, request).await.unwrap().raw_output_contents[0].to_vec());
        let input = json!({"name": "x", "datatype": "FP32", "shape": [1, 97], "parameters": {"binary_data_size": 388}});
        let (body, headers) =
            with_binary(&json!({"id": id, "inputs": [input], "parameters": {"binary_data_output": true}}), &numbers());
        let answer = post_with(server.http, "/v2/models/http/infer", &headers, body.clone()).await;
        answers.insert(answer.binary().1.to_vec());
        // Requests that the path for plain requests does not take.
        let unusual = [headers[0].clone(), ("x-unusual", "1".into()), ("expect", "100-continue".into())];
        let answer = post_with(server.http, "/v2/models/both/infer", &unusual, body).await;
        answers.insert(answer.binary().1.to_vec());
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_do_not_depend_on_where_inputs_lie() {
    for config in ["", "batching = \"off\"", "isolation = \"process\"", "max_queue_delay = \"100us\""] {
        let repository = repository(config);
        let server = Server::start(repository.path());
        let answers = answers(&server).await;
        assert_eq!(answers.len(), 1, "with {config:?}: {answers:02x?}");
    }
}
