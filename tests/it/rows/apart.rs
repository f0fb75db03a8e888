//! Requests that run alone and uncut although their model is batched: the proof does not hold for their extents.

use bytes::Bytes;
use onnxd::api::proto::{ModelInferRequest, ModelInferResponse};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tonic::Code;

use super::graphs;
use crate::support::{
    client::{float_bytes, floats, get, infer, inference, input, metric, raw_request},
    onnx::Graph,
    server::Server,
};

/// Shape and elements.
type Output = (Vec<i64>, Vec<f32>);

/// Batches are small, and requests wait for others.
const CONFIG: &str = "max_batch_size = 4\nmax_queue_delay = \"20ms\"\nmax_queue_time = \"none\"\n";

/// A server of one model, which is batched.
async fn serve(graph: Graph) -> (TempDir, Server) {
    let repository = TempDir::new().unwrap();
    graphs::save(graph, repository.path(), "m", CONFIG);
    let server = Server::start(repository.path());
    let metadata: Value = get(server.http, "/v2/models/m").await.json();
    assert_eq!(metadata["properties"]["batching"], "on: up to 4 rows", "{metadata}");
    (repository, server)
}

/// Elements that differ from request to request, beginning at a number.
fn ramp(count: i64, first: usize) -> Vec<f32> {
    (0..count).map(|index| (first * 100) as f32 + index as f32).collect()
}

/// A request with two inputs.
fn pair(names: [&str; 2], shapes: [&[i64]; 2], values: [&[f32]; 2]) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "m".into(),
        inputs: names.iter().zip(shapes).map(|(name, shape)| input(name, "FP32", shape)).collect(),
        raw_input_contents: values.iter().map(|values| Bytes::from(float_bytes(values))).collect(),
        ..ModelInferRequest::default()
    }
}

/// Shape and elements of the first output.
fn first(answer: &ModelInferResponse) -> Output {
    (answer.outputs[0].shape.clone(), floats(answer))
}

/// Kernels round differently for batches of other sizes.
fn is_close((got, expected): (&f32, &f32)) -> bool {
    (got - expected).abs() <= 1e-5 + 1e-3 * expected.abs()
}

/// Requests at once, each with its expected answer.
async fn ask_at_once(server: &Server, requests: Vec<(ModelInferRequest, Output)>) {
    let client = inference(server).await;
    let mut tasks = JoinSet::new();
    for (request, expected) in requests {
        let client = client.clone();
        tasks.spawn(async move {
            let shapes: Vec<_> = request.inputs.iter().map(|input| input.shape.clone()).collect();
            let answer = infer(&client, request).await.unwrap_or_else(|status| panic!("{shapes:?}: {status}"));
            let ((shape, values), (expected_shape, expected)) = (first(&answer), expected);
            assert_eq!(shape, expected_shape, "{shapes:?}");
            assert!(values.iter().zip(&expected).all(is_close), "{shapes:?}: {values:?}, expected {expected:?}");
        });
    }
    tasks.join_all().await;
}

/// Sums of [rows of a, 4] and [rows of b, 4], one of which has one row or both of which have as many.
fn broadcast(number: usize, a: i64, b: i64) -> (ModelInferRequest, Output) {
    let (left, right) = (ramp(a * 4, number), ramp(b * 4, number + 1));
    let rows = a.max(b);
    let element = |values: &[f32], rows: i64, index: usize| values[if rows == 1 { index % 4 } else { index }];
    let sums = (0..rows as usize * 4).map(|index| element(&left, a, index) + element(&right, b, index)).collect();
    (pair(["a", "b"], [&[a, 4], &[b, 4]], [&left, &right]), (vec![rows, 4], sums))
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_of_different_rows_are_answered_whole() {
    // Axis 0 has two names, as where nothing says that both inputs have as many rows.
    let (_repository, server) = serve(graphs::sum(&["n", "4"], &["m", "4"], &["k", "4"])).await;
    let mut requests = Vec::new();
    for number in 0..60 {
        let (a, b) = [(1, 1), (1, 5), (5, 1), (1, 9), (9, 1), (2, 2), (1, 3)][number % 7];
        requests.push(broadcast(number, a, b));
    }
    ask_at_once(&server, requests).await;
    // The requests with as many rows in both inputs are joined.
    let (rows, batches) =
        (metric(&server, "onnxd_rows_total", &[]).await, metric(&server, "onnxd_batch_rows_count", &[]).await);
    assert!(batches < 60.0, "{rows} rows in {batches} batches");
}

#[tokio::test(flavor = "multi_thread")]
async fn axes_of_one_name_that_disagree_run_alone() {
    let (_repository, server) = serve(graphs::sum_where_lengths_agree()).await;
    let mut requests = Vec::new();
    for number in 0..60 {
        let (rows, columns) = ([1, 1, 6][number % 3], [1, 3][number % 2]);
        let (left, right) = (ramp(rows * columns, number), ramp(rows * 3, number + 1));
        let expected = if columns == 3 {
            left.iter().zip(&right).map(|(left, right)| left + right).collect()
        } else {
            // A softmax over the rows of this request alone. The sums of six rows are 4 apart.
            let share = |row: i64| ((row - (rows - 1)) as f32 * 4.0).exp();
            let whole: f32 = (0..rows).map(share).sum();
            (0..rows * 3).map(|index| share(index / 3) / whole).collect()
        };
        requests.push((pair(["a", "b"], [&[rows, columns], &[rows, 3]], [&left, &right]), (vec![rows, 3], expected)));
    }
    ask_at_once(&server, requests).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_with_an_empty_axis_run_alone() {
    let (_repository, server) = serve(graphs::rows_by_an_extent()).await;
    let mut requests = Vec::new();
    for number in 0..60 {
        // In one batch all rows would be the first.
        let x = ramp(12, number);
        requests.push((pair(["x", "z"], [&[1, 12], &[1, 0]], [&x, &[]]), (vec![1, 12], x)));
    }
    ask_at_once(&server, requests).await;
    assert_eq!(metric(&server, "onnxd_batch_rows_count", &[]).await, 60.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_the_extents_of_the_example_run_alone() {
    let (_repository, server) = serve(graphs::viewed_as_its_example()).await;
    let client = inference(&server).await;
    let ask = |rows: i64, time: i64, number: usize| {
        let values: Vec<f32> = ramp(rows * time * 4, number).iter().map(|value| (value % 7.0) / 7.0).collect();
        raw_request("m", "x", "FP32", &[rows, time, 4], float_bytes(&values))
    };
    let batches = async || metric(&server, "onnxd_batch_rows_count", &[]).await;
    // Eight rows of five steps are more than a batch holds. Ten steps are no row of twenty elements, and two steps are part of one.
    let kinds = [(1, 5), (1, 10), (2, 10), (3, 5), (8, 5), (10, 2), (1, 5)];
    let mut alone = Vec::new();
    for (number, (rows, time)) in kinds.into_iter().enumerate() {
        let answer = infer(&client, ask(rows, time, number)).await;
        match &answer {
            Ok(answer) => assert_eq!(first(answer).0, [rows * time / 5, 20], "[{rows},{time},4]"),
            Err(status) => assert!(time != 5 && status.code() == Code::InvalidArgument, "[{rows},{time},4]: {status}"),
        }
        alone.push(answer);
    }
    let before = batches().await;
    let mut tasks = JoinSet::new();
    for number in 0..70 {
        let (client, kind) = (client.clone(), number % kinds.len());
        let request = ask(kinds[kind].0, kinds[kind].1, kind);
        tasks.spawn(async move { (kind, infer(&client, request).await) });
    }
    for (kind, answer) in tasks.join_all().await {
        match (answer, &alone[kind]) {
            (Ok(answer), Ok(alone)) => {
                let ((shape, values), (expected_shape, expected)) = (first(&answer), first(alone));
                assert_eq!(shape, expected_shape, "{:?}", kinds[kind]);
                assert!(values.iter().zip(&expected).all(is_close), "{:?}", kinds[kind]);
            }
            (Err(status), Err(alone)) => assert_eq!(status.code(), alone.code(), "{:?}: {status}", kinds[kind]),
            (answer, _) => panic!("{:?}: {answer:?}", kinds[kind]),
        }
    }
    // Alone are 30; the 130 rows of the others fit into 33 batches, of which each piece of eight rows would be two.
    let batches = batches().await - before;
    assert!(batches < 30.0 + 50.0, "{batches} batches");
}
