//! Runs that do not end, and loads that do not: they cost their own requests, and nothing else.

use http::StatusCode;
use onnxd::api::grpc::proto::{InferParameter, ModelInferRequest, ServerLiveRequest, infer_parameter::ParameterChoice};
use serde_json::json;
use std::{
    fs,
    io::Write,
    net::TcpStream,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tonic::Code;

use crate::support::{
    client::{float_bytes, floats, get, infer, inference, int64_bytes, int64s, metric, post, raw_request},
    onnx,
    server::{Server, eventually, onnxd},
};

/// A run of the model `slow` with so many rounds.
fn rounds(count: i64) -> ModelInferRequest {
    raw_request("slow", "iterations", "INT64", &[1, 1], int64_bytes(&[count]))
}

/// The same as JSON, with parameters.
fn json_rounds(count: i64, parameters: serde_json::Value) -> String {
    let input = json!({ "name": "iterations", "datatype": "INT64", "shape": [1, 1], "data": [count] });
    json!({ "inputs": [input], "parameters": parameters }).to_string()
}

/// `slow`, whose runs take as long as a client says; `wide`, whose runs take every CPU; and `small`, whose runs take one.
fn repository(slow: &str) -> TempDir {
    let repository = TempDir::new().unwrap();
    let save = |name: &str, graph: onnx::Graph, config: &str| {
        graph.save(&repository.path().join(name).join("1/model.onnx"));
        fs::write(repository.path().join(name).join("config.toml"), config).unwrap();
    };
    save("slow", onnx::slow(), slow);
    save("wide", onnx::add(1.0), "intra_op_threads = 1024\nin_place = \"off\"");
    save("small", onnx::add(2.0), "in_place = \"off\"");
    repository
}

/// All models answer, `slow` too.
async fn all_answer(server: &Server) {
    let client = inference(server).await;
    for (model, plus) in [("wide", 1.0), ("small", 2.0)] {
        let answer = infer(&client, raw_request(model, "x", "FP32", &[1, 2], float_bytes(&[1.0, 2.0]))).await.unwrap();
        assert_eq!(floats(&answer), [1.0 + plus, 2.0 + plus]);
    }
    assert_eq!(int64s(&infer(&client, rounds(1)).await.unwrap()), [1]);
    for path in ["/v2/health/live", "/v2/health/ready"] {
        assert_eq!(get(server.http, path).await.status, StatusCode::OK);
    }
}

async fn stopped(server: &Server, reason: &str) -> f64 {
    let reason = format!("reason=\"{reason}\"");
    metric(server, "onnxd_runs_stopped_total", &["model=\"slow\"", &reason]).await
}

/// The wedge: without a stop, the runs take every CPU for ever.
#[tokio::test(flavor = "multi_thread")]
async fn run_stops_at_its_deadline() {
    let repository = repository("intra_op_threads = 1024");
    let server = Server::start(repository.path());
    let client = inference(&server).await;
    for count in 1..=2 {
        let mut late = rounds(i64::MAX);
        let parameter_choice = Some(ParameterChoice::Uint64Param(100_000));
        late.parameters.insert("timeout".into(), InferParameter { parameter_choice });
        let status = infer(&client, late).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        all_answer(&server).await;
        let late = json_rounds(i64::MAX, json!({ "timeout": 100_000 }));
        let answer = post(server.http, "/v2/models/slow/infer", late).await;
        assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT, "{answer:?}");
        all_answer(&server).await;
        assert_eq!(stopped(&server, "deadline").await, 2.0 * f64::from(count));
    }
    let errors = server.count_log(|line| line["level"] == "ERROR" || line["level"] == "WARN");
    assert_eq!(errors, 0, "clients could fill the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn run_stops_when_its_client_has_gone() {
    let repository = repository("intra_op_threads = 1024");
    let server = Server::start(repository.path());
    let body = json_rounds(i64::MAX, json!({}));
    let head = format!("POST /v2/models/slow/infer HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut connection = TcpStream::connect(server.http).unwrap();
    connection.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let runs = async || metric(&server, "onnxd_queue_duration_seconds_count", &["model=\"slow\""]).await == 1.0;
    eventually("the request runs", runs).await;
    drop(connection);
    all_answer(&server).await;
    assert_eq!(stopped(&server, "cancelled").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn run_stops_at_max_run_time() {
    let repository = repository("max_run_time = \"300ms\"");
    let server = Server::start(repository.path());
    let status = infer(&inference(&server).await, rounds(i64::MAX)).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    let expected = "model 'slow' version 1: the run was stopped after 300ms (max_run_time)";
    assert_eq!(status.message(), expected);
    let answer = post(server.http, "/v2/models/slow/infer", json_rounds(i64::MAX, json!({}))).await;
    assert_eq!((answer.status, answer.error()), (StatusCode::GATEWAY_TIMEOUT, expected.into()));
    assert_eq!(stopped(&server, "max_run_time").await, 2.0);
    server.wait_for_log(|line| {
        line["level"] == "WARN" && line["message"].as_str().is_some_and(|message| message.contains("max_run_time"))
    });
    all_answer(&server).await;
}

/// A version whose runs take every CPU waits for one without end; what needs fewer does not wait behind it.
#[tokio::test(flavor = "multi_thread")]
async fn short_runs_pass_a_version_that_waits_for_more_cpus() {
    if std::thread::available_parallelism().unwrap().get() < 2 {
        return eprintln!("skipped: there is one CPU");
    }
    let repository = repository("intra_op_threads = 1");
    let server = Server::start(repository.path());
    let client = inference(&server).await;
    let request = |model: &str| raw_request(model, "x", "FP32", &[1, 2], float_bytes(&[1.0, 2.0]));
    let queued = async |model: &str| {
        let label = format!("model=\"{model}\"");
        metric(&server, "onnxd_requests_in_flight", &[&label]).await == 1.0
    };
    let (endless, wide) = (client.clone(), client.clone());
    let endless = tokio::spawn(async move { infer(&endless, rounds(i64::MAX)).await });
    let runs = async || metric(&server, "onnxd_queue_duration_seconds_count", &["model=\"slow\""]).await == 1.0;
    eventually("the endless one runs", runs).await;
    let asked = request("wide");
    let wide = tokio::spawn(async move { infer(&wide, asked).await });
    eventually("the wide one waits", async || queued("wide").await).await;
    for _ in 0..3 {
        assert_eq!(floats(&infer(&client, request("small")).await.unwrap()), [3.0, 4.0]);
    }
    assert!(queued("wide").await && !wide.is_finished());
    endless.abort();
    assert_eq!(floats(&wide.await.unwrap().unwrap()), [2.0, 3.0]);
}

/// Who shares a batch with a run without end gets an answer once that is stopped.
#[tokio::test(flavor = "multi_thread")]
async fn endless_request_costs_its_batch_nothing_but_time() {
    let repository =
        repository("batching = \"on\"\nmax_batch_size = 2\nmax_queue_delay = \"1h\"\nmax_run_time = \"500ms\"");
    let server = Server::start(repository.path());
    let client = inference(&server).await;
    let (good, endless) = tokio::join!(infer(&client, rounds(3)), infer(&client, rounds(i64::MAX)));
    assert_eq!(int64s(&good.unwrap()), [3]);
    assert_eq!(endless.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(metric(&server, "onnxd_batch_rows_bucket", &["model=\"slow\"", "le=\"1\""]).await, 2.0, "the halves");
    assert_eq!(stopped(&server, "max_run_time").await, 2.0, "the batch, and the culprit alone");
}

/// Boxes of which none covers another: to find that out takes a time that grows with the square of their number, within one
/// operator.
fn boxes(count: usize) -> ModelInferRequest {
    raw_request("boxes", "boxes", "FP32", &[1, count as i64, 4], float_bytes(&side_by_side(count)))
}

fn side_by_side(count: usize) -> Vec<f32> {
    (0..count).flat_map(|number| [number as f32, 0.0, number as f32 + 0.5, 1.0]).collect()
}

/// A model that keeps one box of those that cover each other, which a client gives or which are constant. That can't be stopped
/// while it goes on.
fn save_boxes(repository: &Path, name: &str, constant: Option<(usize, bool)>) {
    let number = |name: &str, dims: &[i64], number: i64| onnx::Tensor {
        dims: dims.into(),
        data_type: onnx::INT64,
        name: name.into(),
        raw_data: number.to_le_bytes().into(),
        ..onnx::Tensor::default()
    };
    let mut graph = onnx::Graph {
        name: "boxes".into(),
        node: vec![
            onnx::node("ReduceSum", &["boxes", "two"], &["sums"]).int("keepdims", 0),
            onnx::node("Unsqueeze", &["sums", "one"], &["scores"]),
            onnx::node("NonMaxSuppression", &["boxes", "scores", "most", "overlap"], &["kept"]),
        ],
        initializer: vec![
            number("one", &[1], 1),
            number("two", &[1], 2),
            number("most", &[], i64::MAX),
            onnx::floats("overlap", &[], &[0.5]),
        ],
        input: vec![onnx::value("boxes", onnx::FLOAT, &["1", "count", "4"])],
        output: vec![onnx::value("kept", onnx::INT64, &["kept", "3"])],
    };
    if let Some((count, is_by_session)) = constant {
        graph.input = vec![onnx::value("x", onnx::FLOAT, &["1"])];
        let constant = onnx::floats("constant", &[1, count as i64, 4], &side_by_side(count));
        graph.initializer.push(constant);
        // Without the input they are sorted out while the session is made.
        let other = if is_by_session { "constant" } else { "x" };
        graph.node.insert(0, onnx::node("Max", &["constant", other], &["boxes"]));
        graph.node.push(onnx::node("Identity", &["x"], &["y"]));
        graph.output.push(onnx::value("y", onnx::FLOAT, &["1"]));
    }
    graph.save(&repository.join(name).join("1/model.onnx"));
    fs::write(repository.join(name).join("config.toml"), "max_run_time = \"500ms\"").unwrap();
}

/// A server that may use one CPU.
fn start_on_one_cpu(repository: &Path) -> Server {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", "0"]).arg(onnxd().get_program());
    for (name, _) in onnxd().get_envs().filter(|(_, value)| value.is_none()) {
        command.env_remove(name);
    }
    Server::start_command(command, repository, &[])
}

/// One operator that takes for ever can't be stopped: its run is abandoned.
#[tokio::test(flavor = "multi_thread")]
async fn run_that_can_not_be_stopped_is_abandoned() {
    let repository = repository("");
    save_boxes(repository.path(), "boxes", None);
    let mut server = start_on_one_cpu(repository.path());
    let client = inference(&server).await;
    let kept = infer(&client, boxes(3)).await.unwrap();
    assert_eq!(int64s(&kept).len(), 9);
    let status = infer(&client, boxes(1_000_000)).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(status.message().contains("did not end within 5s after it was stopped at max_run_time"), "{status:?}");
    assert_eq!(metric(&server, "onnxd_runs_abandoned_total", &["model=\"boxes\""]).await, 1.0);

    // Another thread has taken its place, and the version is out of service.
    let status = infer(&client, boxes(3)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let model = async || get(server.admin, "/admin/v1/models/boxes").await.json();
    eventually("it is quarantined", async || model().await["versions"][0]["state"] == "FAILED").await;
    assert!(model().await["versions"][0].to_string().contains("quarantined"), "{}", model().await);
    let answer = infer(&client, raw_request("wide", "x", "FP32", &[1, 2], float_bytes(&[1.0, 2.0]))).await.unwrap();
    assert_eq!(floats(&answer), [2.0, 3.0]);
    // All CPUs are lost.
    for path in ["/v2/health/live", "/v2/health/ready"] {
        assert_eq!(get(server.http, path).await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert!(!client.clone().server_live(ServerLiveRequest {}).await.unwrap().into_inner().live);
    assert_eq!(metric(&server, "onnxd_abandoned_runs", &[]).await, 1.0);
    // A call lifts the quarantine.
    let loaded = post(server.admin, "/admin/v1/models/boxes/load", "{\"reason\":\"it is mended\"}").await;
    assert_eq!(loaded.status, StatusCode::OK, "{loaded:?}");
    eventually("it is loaded", async || model().await["versions"][0]["state"] == "READY").await;
    // It is not waited for.
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

/// A model whose every run goes on for ever.
fn endless() -> onnx::Graph {
    let mut graph = onnx::slow();
    let raw_data = i64::MAX.to_le_bytes().into();
    graph.initializer.push(onnx::Tensor {
        data_type: onnx::INT64,
        name: "rounds".into(),
        raw_data,
        ..onnx::Tensor::default()
    });
    graph.node.remove(0);
    graph
}

fn is_of<'a>(model: &'a str, part: &'a str) -> impl Fn(&serde_json::Value) -> bool + 'a {
    move |line| line["model"] == model && line["message"].as_str().is_some_and(|message| message.contains(part))
}

/// At the start the others answer before the load ends, and it ends.
#[tokio::test(flavor = "multi_thread")]
async fn load_without_end_fails_and_holds_up_none_at_the_start() {
    let repository = repository("");
    (0..4).for_each(|number| endless().save(&repository.path().join(format!("endless{number}/1/model.onnx"))));
    // Returns once all loads have ended.
    let server = Server::start_with(repository.path(), &["--max-run-time", "2s"]);
    all_answer(&server).await;
    let log = server.log();
    let place = |wanted: &dyn Fn(&serde_json::Value) -> bool| log.iter().position(wanted).unwrap();
    for model in ["slow", "small", "wide"] {
        assert!(place(&is_of(model, "loading")) < place(&is_of(model, "ready")));
    }
    for model in ["endless0", "endless1", "endless2", "endless3"] {
        let failed = log.iter().find(|line| is_of(model, "not loaded")(line)).unwrap();
        assert!(failed["message"].as_str().unwrap().contains("did not end within 2s (max_run_time"), "{failed}");
        let answer = get(server.http, &format!("/v2/models/{model}/ready")).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    }
}

/// What is loaded is published though other loads go on.
#[tokio::test(flavor = "multi_thread")]
async fn loaded_version_serves_while_another_load_goes_on() {
    let repository = repository("");
    endless().save(&repository.path().join("endless/1/model.onnx"));
    fs::write(repository.path().join("endless/config.toml"), "max_run_time = \"20s\"").unwrap();
    let server = Server::starting(repository.path(), &[]);
    let is_ready = async |model: &str| get(server.http, &format!("/v2/models/{model}/ready")).await.status == 200;
    for model in ["slow", "small", "wide"] {
        eventually("it is ready", async || is_ready(model).await).await;
    }
    assert_eq!(server.count_log(is_of("endless", "not loaded")), 0, "its load goes on");
}

/// A version that is added while a load goes on for long does not wait for it; nor does the end.
#[tokio::test(flavor = "multi_thread")]
async fn load_without_end_holds_up_neither_later_loads_nor_the_end() {
    let repository = repository("");
    let mut server = Server::start(repository.path());
    let save = |name: &str, config: &str| {
        let folder = repository.path().join(name);
        endless().save(&folder.join("1/model.onnx"));
        fs::write(folder.join("config.toml"), config).unwrap();
    };
    save("endless", "max_run_time = \"0s\"");
    server.wait_for_log(is_of("endless", "loading"));
    onnx::add(1.0).save(&repository.path().join("later/1/model.onnx"));
    let is_ready = async || get(server.http, "/v2/models/later/ready").await.status == 200;
    eventually("the later one is ready", is_ready).await;
    assert_eq!(server.count_log(is_of("endless", "not loaded")), 0, "its load goes on");
    all_answer(&server).await;
    let signalled = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    assert!(signalled.elapsed() < Duration::from_secs(30), "it was not waited for");
}

#[tokio::test(flavor = "multi_thread")]
async fn load_fails_at_its_deadline() {
    let repository = repository("");
    endless().save(&repository.path().join("endless/1/model.onnx"));
    save_boxes(repository.path(), "boxes", Some((1_000_000, true)));
    let mut server =
        Server::start_with(repository.path(), &["--load-timeout", "3s", "--max-run-time", "0s", "--trial", "off"]);
    for model in ["endless", "boxes"] {
        server.wait_for_log(is_of(model, "it did not load within 3s (--load-timeout)"));
    }
    all_answer(&server).await;
    // The session of the boxes is still being made.
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

/// A run of a load in this process that can't be stopped is not waited for.
#[tokio::test(flavor = "multi_thread")]
async fn load_with_a_run_that_can_not_be_stopped_fails() {
    let repository = repository("");
    save_boxes(repository.path(), "boxes", Some((1_000_000, false)));
    let mut server = Server::start_with(repository.path(), &["--trial", "off"]);
    server.wait_for_log(is_of("boxes", "a run of it did not end when it was stopped at max_run_time"));
    all_answer(&server).await;
    assert_eq!(metric(&server, "onnxd_abandoned_runs", &[]).await, 1.0);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}
