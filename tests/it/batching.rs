//! Requests that come together run together, and nobody notices but the machine.

use std::{fs, path::Path, time::Duration};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tonic::Code;

use crate::support::{
    client::{float_bytes, floats, get, infer, inference, int64_bytes, metric, raw_request},
    load::{pending, runs},
    onnx,
    server::Server,
};

/// A repository with one model and its configuration.
fn repository(name: &str, graph: onnx::Graph, config: &str) -> TempDir {
    let repository = TempDir::new().unwrap();
    let folder = repository.path().join(name);
    graph.save(&folder.join("1/model.onnx"));
    fs::write(folder.join("config.toml"), config).unwrap();
    repository
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_rows_share_batches_and_keep_their_answers() {
    let repository = repository("mlp", onnx::mlp(&[32, 64, 64, 2]), "");
    let server = Server::start(repository.path());
    let row =
        |seed: usize| -> Vec<f32> { (0..32).map(|index| ((seed * 31 + index * 17) % 101) as f32 / 101.0).collect() };
    let alone = inference(&server).await;
    let mut expected = Vec::new();
    for seed in 0..64 {
        let answer = infer(&alone, raw_request("mlp", "x", "FP32", &[1, 32], float_bytes(&row(seed)))).await.unwrap();
        expected.push(floats(&answer));
    }
    assert_eq!(metric(&server, "onnxd_batch_rows_count", &[]).await, 64.0, "each alone was its own batch");
    let client = inference(&server).await;
    let mut tasks = JoinSet::new();
    for (seed, expected) in expected.into_iter().enumerate() {
        let client = client.clone();
        tasks.spawn(async move {
            for _ in 0..50 {
                let request = raw_request("mlp", "x", "FP32", &[1, 32], float_bytes(&row(seed)));
                let got = floats(&infer(&client, request).await.unwrap());
                for (got, expected) in got.iter().zip(&expected) {
                    assert!((got - expected).abs() <= 1e-5 + 1e-3 * expected.abs(), "{got} for {expected}");
                }
            }
        });
    }
    tasks.join_all().await;
    let rows = metric(&server, "onnxd_rows_total", &[]).await;
    let batches = metric(&server, "onnxd_batch_rows_count", &[]).await;
    assert_eq!(rows, 64.0 * 51.0);
    assert!(batches < rows, "{rows} rows ran in {batches} batches");
    assert_eq!(metric(&server, "onnxd_batch_rows_bucket", &["le=\"64\""]).await, batches, "no batch is larger than 64");
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_delay_gathers_a_full_batch() {
    // Longer than any test may take: only a full batch ends the wait.
    let repository = repository("add", onnx::add(1.0), "max_batch_size = 4\nmax_queue_delay = \"1h\"");
    let server = Server::start(repository.path());
    let client = inference(&server).await;
    let mut tasks = JoinSet::new();
    for number in 0..4 {
        let client = client.clone();
        tasks.spawn(async move {
            let x = number as f32;
            let request = raw_request("add", "x", "FP32", &[1, 2], float_bytes(&[x, x * 10.0]));
            assert_eq!(floats(&infer(&client, request).await.unwrap()), [x + 1.0, x * 10.0 + 1.0]);
        });
    }
    tasks.join_all().await;
    assert_eq!(metric(&server, "onnxd_batch_rows_count", &[]).await, 1.0);
    assert_eq!(metric(&server, "onnxd_rows_total", &[]).await, 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_delay_ends_without_a_full_batch() {
    let repository = repository("add", onnx::add(1.0), "max_queue_delay = \"20ms\"");
    let server = Server::start(repository.path());
    let client = inference(&server).await;
    for _ in 0..3 {
        let request = raw_request("add", "x", "FP32", &[1, 2], float_bytes(&[1.0, 2.0]));
        assert_eq!(floats(&infer(&client, request).await.unwrap()), [2.0, 3.0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_delay_does_not_outlast_a_deadline() {
    let repository = repository("add", onnx::add(1.0), "max_queue_delay = \"2h\"");
    let server = Server::start(repository.path());
    let mut request = tonic::Request::new(raw_request("add", "x", "FP32", &[1, 2], float_bytes(&[1.0, 2.0])));
    request.set_timeout(Duration::from_secs(3600));
    let answer = inference(&server).await.model_infer(request).await.unwrap();
    assert_eq!(floats(answer.get_ref()), [2.0, 3.0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn request_larger_than_a_batch_is_split_and_rejoined() {
    let repository = repository("add", onnx::add(1.0), "max_batch_size = 4");
    let server = Server::start(repository.path());
    let client = inference(&server).await;
    let x: Vec<f32> = (0..22).map(|value| value as f32).collect();
    let answer = infer(&client, raw_request("add", "x", "FP32", &[11, 2], float_bytes(&x))).await.unwrap();
    assert_eq!(answer.outputs[0].shape, [11, 2]);
    assert_eq!(floats(&answer), x.iter().map(|value| value + 1.0).collect::<Vec<_>>());
    assert_eq!(metric(&server, "onnxd_rows_total", &[]).await, 11.0);
    assert_eq!(metric(&server, "onnxd_batch_rows_bucket", &["le=\"4\""]).await, 3.0);
    assert_eq!(metric(&server, "onnxd_batch_rows_count", &[]).await, 3.0);
    assert_eq!(metric(&server, "onnxd_requests_total", &["code=\"ok\""]).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_request_fails_alone() {
    let repository = repository("lookup", onnx::lookup(), "max_batch_size = 8\nmax_queue_delay = \"1h\"");
    let server = Server::start(repository.path());
    let client = inference(&server).await;
    let mut tasks = JoinSet::new();
    for number in 0..8 {
        let client = client.clone();
        tasks.spawn(async move {
            let x = if number == 5 { 99 } else { number % 4 };
            let answer = infer(&client, raw_request("lookup", "x", "INT64", &[1, 1], int64_bytes(&[x]))).await;
            if number == 5 {
                let error = answer.unwrap_err();
                // The index is the client's, though no check could refuse it.
                assert_eq!(error.code(), Code::InvalidArgument);
                assert!(error.message().contains("'lookup' version 1"), "{error}");
                assert!(error.message().contains("99"), "{error}");
            } else {
                assert_eq!(floats(&answer.unwrap()), [x as f32, x as f32 + 0.5]);
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(metric(&server, "onnxd_requests_total", &["code=\"ok\""]).await, 7.0);
    assert_eq!(metric(&server, "onnxd_requests_total", &["code=\"invalid_argument\""]).await, 1.0);
    // 8, then 4 and 4; of the failing half 2 and 2, then 1 and 1.
    assert_eq!(metric(&server, "onnxd_batch_rows_count", &[]).await, 7.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_influence_each_other_are_not_batched() {
    let repository = repository("across", onnx::across_rows(), "");
    onnx::add(1.0).save(&repository.path().join("off/1/model.onnx"));
    fs::write(repository.path().join("off/config.toml"), "batching = \"off\"").unwrap();
    let server = Server::start(repository.path());
    let batching = async |model: &str| {
        let metadata = get(server.http, &format!("/v2/models/{model}")).await.json();
        metadata["properties"]["batching"].as_str().unwrap().to_owned()
    };
    assert!(
        batching("across").await.starts_with("off: rows of a batch would influence each other: Softmax"),
        "{}",
        batching("across").await
    );
    assert!(batching("off").await.contains("config.toml"));
    let client = inference(&server).await;
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        let client = client.clone();
        tasks.spawn(async move {
            for _ in 0..10 {
                let request = raw_request("across", "x", "FP32", &[1, 2], float_bytes(&[3.0, 4.0]));
                assert_eq!(floats(&infer(&client, request).await.unwrap()), [1.0, 1.0]);
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(metric(&server, "onnxd_batch_rows_count", &["model=\"across\""]).await, 160.0);
}

/// Rows that take longer to stack than to run are not joined, unless the configuration wants it; a request of more rows than
/// a batch may have is cut all the same.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_cost_more_to_stack_are_not_batched() {
    const WIDTH: usize = 1 << 18;
    for (config, expected) in [
        ("max_batch_size = 2", "off: 4 rows of 1024 KiB take "),
        ("max_batch_size = 2\nbatching = \"on\"", "on: up to 2 rows"),
        ("max_batch_size = 2\nmax_queue_delay = \"1ms\"", "on: up to 2 rows"),
    ] {
        let repository = repository("column", onnx::column(WIDTH, WIDTH - 1), config);
        let server = Server::start(repository.path());
        let metadata = get(server.http, "/v2/models/column").await.json();
        let reported = metadata["properties"]["batching"].as_str().unwrap_or_default();
        assert!(reported.starts_with(expected), "{config}: {reported}");
        let client = inference(&server).await;
        let mut tasks = JoinSet::new();
        for number in 0..10_usize {
            let (client, rows) = (client.clone(), 1 + number % 3);
            tasks.spawn(async move {
                let last = |row: usize| (number * 10 + row) as f32;
                let mut values = vec![0.5; rows * WIDTH];
                (0..rows).for_each(|row| values[row * WIDTH + WIDTH - 1] = last(row));
                let request = raw_request("column", "x", "FP32", &[rows as i64, WIDTH as i64], float_bytes(&values));
                let expected: Vec<f32> = (0..rows).map(last).collect();
                assert_eq!(floats(&infer(&client, request).await.unwrap()), expected);
            });
        }
        tasks.join_all().await;
        let batches = metric(&server, "onnxd_batch_rows_count", &[]).await;
        if expected.starts_with("off") {
            // Three of the ten have three rows, which are cut in two.
            assert_eq!(batches, 13.0);
        }
        assert_eq!(metric(&server, "onnxd_rows_total", &[]).await, 19.0);
        assert_eq!(metric(&server, "onnxd_batch_rows_bucket", &["le=\"2\""]).await, batches);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn different_inner_shapes_never_mix() {
    let dims = ["batch", "length"];
    // Ten rows make a batch; the two lengths have five each, so neither fills one until the second round comes.
    let repository =
        repository("identity", onnx::identity(onnx::FLOAT, &dims), "max_batch_size = 10\nmax_queue_delay = \"1h\"");
    let server = Server::start(repository.path());
    let client = inference(&server).await;
    let mut tasks = JoinSet::new();
    for number in 0..20_usize {
        let client = client.clone();
        tasks.spawn(async move {
            let x: Vec<f32> = (0..2 + number % 2).map(|index| (number * 10 + index) as f32).collect();
            let request = raw_request("identity", "x", "FP32", &[1, x.len() as i64], float_bytes(&x));
            assert_eq!(floats(&infer(&client, request).await.unwrap()), x);
        });
        if number == 9 {
            pending(&server, 10.0).await;
            assert_eq!(metric(&server, "onnxd_rows_total", &[]).await, 0.0, "five rows of a length are no full batch");
        }
    }
    tasks.join_all().await;
    assert_eq!(metric(&server, "onnxd_batch_rows_count", &[]).await, 2.0);
}

#[test]
fn sample_models_are_batched() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let server = Server::start(&models);
    let ready = |line: &serde_json::Value| line["message"] == "ready" && line["batching"] == "on: up to 64 rows";
    assert_eq!(server.count_log(ready), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_batch_does_not_hold_up_a_full_one() {
    let config = "max_batch_size = 4\nmax_queue_delay = \"1h\"";
    let repository = repository("identity", onnx::identity(onnx::FLOAT, &["batch", "length"]), config);
    let server = Server::start(repository.path());
    let client = inference(&server).await;
    let lone = raw_request("identity", "x", "FP32", &[1, 1], float_bytes(&[1.0]));
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { infer(&client, lone).await }
    });
    pending(&server, 1.0).await;
    let full = raw_request("identity", "x", "FP32", &[4, 2], float_bytes(&[2.0; 8]));
    assert_eq!(floats(&infer(&client, full).await.unwrap()), [2.0; 8]);
    assert!(!waiting.is_finished());
}

/// Rows take few bytes or none, and pieces of a request take memory: a small message may not ask for any number of them.
#[tokio::test(flavor = "multi_thread")]
async fn excessive_row_counts_are_rejected() {
    let repository = repository("echo", onnx::identity(onnx::UINT8, &["batch", "length"]), "max_batch_size = 4");
    let server = Server::start(repository.path());
    let client = inference(&server).await;
    for (shape, says) in [([4 * 65_536 + 1, 1], "at most 262144 rows"), ([i64::MAX, 0], "at most 65536")] {
        let data = vec![0; usize::try_from(shape[0] * shape[1]).unwrap()];
        let status = infer(&client, raw_request("echo", "x", "UINT8", &shape, data)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(says), "{status:?}");
    }
    let answer = infer(&client, raw_request("echo", "x", "UINT8", &[9, 0], Vec::new())).await.unwrap();
    assert_eq!(answer.outputs[0].shape, [9, 0]);
}

/// Waiting requests go to every free instance, though they came with one push or waited for company.
#[tokio::test(flavor = "multi_thread")]
async fn free_instances_take_waiting_requests_at_once() {
    if std::thread::available_parallelism().unwrap().get() < 2 {
        return;
    }
    const CONFIG: &str =
        "batching = \"on\"\nmax_batch_size = 1\ninstances = 2\nintra_op_threads = 1\nmax_run_time = \"0s\"\n";
    let repository = repository("slow", onnx::slow(), CONFIG);
    let server = Server::start(repository.path());
    let client = inference(&server).await;
    // Two pieces, of which neither ends: where one waits for the other it never runs.
    let request = raw_request("slow", "iterations", "INT64", &[2, 1], int64_bytes(&[i64::MAX; 2]));
    let running = tokio::spawn(async move { infer(&client, request).await });
    runs(&server, 2.0).await;
    assert!(!running.is_finished());
}

#[tokio::test(flavor = "multi_thread")]
async fn run_threads_are_limited_to_the_cpus() {
    let repository = repository("add", onnx::add(1.0), "intra_op_threads = 100000");
    let server = Server::start(repository.path());
    let metadata = get(server.http, "/v2/models/add").await.json();
    let cpus = std::thread::available_parallelism().unwrap().get();
    assert_eq!(metadata["properties"]["intra_op_threads"], cpus.to_string());
}

/// Cheap models run where requests are read; what a client could make long does not.
#[tokio::test(flavor = "multi_thread")]
async fn inline_runs_are_chosen_by_cost() {
    let mlp = || onnx::mlp(&[32, 64, 64, 2]);
    for (graph, config, expected) in [
        (mlp(), "", "on: up to 64 rows"),
        (mlp(), "max_batch_size = 5", "on: up to 5 rows"),
        (mlp(), "batching = \"off\"", "off: 'x' has no fixed size"),
        (mlp(), "in_place = \"off\"", "off: config.toml says in_place = \"off\""),
        (mlp(), "max_queue_delay = \"1ms\"", "off: config.toml has requests wait"),
        (onnx::mlp(&[32, 512, 512, 2]), "intra_op_threads = 1", "off: a batch of 64 rows takes"),
        (onnx::mlp(&[32, 2048, 2048, 2]), "intra_op_threads = 1", "off: a row takes"),
        (onnx::slow(), "batching = \"on\"", "off: its Loop may take long for some values"),
    ] {
        let repository = repository("m", graph, config);
        let server = Server::start(repository.path());
        let metadata = get(server.http, "/v2/models/m").await.json();
        let reported = metadata["properties"]["in_place"].as_str().unwrap_or_default();
        // The speed of the machine decides too; nothing else may speak against it.
        let is_slow = |text: &str| text.starts_with("off: a batch of") || text.starts_with("off: a row takes");
        let by_speed = (expected.starts_with("on") || is_slow(expected)) && is_slow(reported);
        assert!(reported.starts_with(expected) || by_speed, "{config}: {reported}");
    }
}

/// The same answers come from both places, whoever asks at once.
#[tokio::test(flavor = "multi_thread")]
async fn answers_are_equal_inline_and_on_compute_threads() {
    let mut answers = Vec::new();
    for config in ["in_place = \"auto\"", "in_place = \"off\""] {
        let repository = repository("mlp", onnx::mlp(&[32, 64, 64, 2]), config);
        let server = Server::start(repository.path());
        let mut tasks = JoinSet::new();
        for seed in 0..100usize {
            // More rows than a batch holds now and then: they run in pieces.
            let rows = if seed % 10 == 0 { 150 } else { 1 + seed % 3 };
            let client = inference(&server).await;
            let values: Vec<f32> =
                (0..rows * 32).map(|index| ((seed * 31 + index * 17) % 101) as f32 / 101.0).collect();
            let shape = [rows as i64, 32];
            tasks.spawn(async move {
                let request = raw_request("mlp", "x", "FP32", &shape, float_bytes(&values));
                (seed, floats(&infer(&client, request).await.unwrap()))
            });
        }
        let mut answered = tasks.join_all().await;
        answered.sort_by_key(|(seed, _)| *seed);
        answers.push(answered);
    }
    for ((_, here), (_, there)) in answers[0].iter().zip(&answers[1]) {
        let differs = |(one, other): (&f32, &f32)| (one - other).abs() > 1e-5 + 1e-3 * other.abs();
        assert!(here.len() == there.len() && !here.iter().zip(there).any(differs), "{here:?} {there:?}");
    }
}
