//! Runs that do not end, and loads that do not: they cost their own requests, and nothing else.

use http::StatusCode;
use onnxd::api::proto::{InferParameter, ModelInferRequest, ServerLiveRequest, infer_parameter::ParameterChoice};
use serde_json::json;
use std::{fs, io::Write, net::TcpStream, path::Path, process::Command};
use tempfile::TempDir;
use tonic::Code;

use crate::support::{
    client::{float_bytes, floats, get, infer, inference, int64s, metric, post, raw_request},
    load::{NO_TIME_LIMITS, occupy, request, runs},
    onnx,
    server::{Server, eventually, field, onnxd},
};

/// A request for so many rounds of `slow` as JSON, with parameters.
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
    assert_eq!(int64s(&infer(&client, request(1)).await.unwrap()), [1]);
    // Ready it may be or not: some tests have a model that is never loaded.
    assert_eq!(get(server.http, "/v2/health/live").await.status, StatusCode::OK);
}

async fn stopped(server: &Server, reason: &str) -> f64 {
    let reason = format!("reason=\"{reason}\"");
    metric(server, "onnxd_runs_stopped_total", &["model=\"slow\"", &reason]).await
}

/// Makes calls with a deadline until a run is stopped for one. On a slow machine the deadline may pass before the run begins, or
/// may be predicted to.
async fn stops_a_run(server: &Server, is_late: impl AsyncFn() -> bool) {
    let before = stopped(server, "deadline").await;
    eventually("a run is stopped at its deadline", async || {
        let is_late = is_late().await;
        all_answer(server).await;
        stopped(server, "deadline").await > before && is_late
    })
    .await;
}

/// The wedge: without a stop, the runs take every CPU for ever.
#[tokio::test(flavor = "multi_thread")]
async fn run_stops_at_its_deadline() {
    let repository = repository("intra_op_threads = 1024");
    let server = Server::start(repository.path());
    let client = inference(&server).await;
    let over_grpc = async || {
        let mut late = request(i64::MAX);
        let parameter_choice = Some(ParameterChoice::Uint64Param(100_000));
        late.parameters.insert("timeout".into(), InferParameter { parameter_choice });
        infer(&client, late).await.unwrap_err().code() == Code::DeadlineExceeded
    };
    let over_http = async || {
        let late = json_rounds(i64::MAX, json!({ "timeout": 100_000 }));
        post(server.http, "/v2/models/slow/infer", late).await.status == StatusCode::GATEWAY_TIMEOUT
    };
    for _ in 0..2 {
        stops_a_run(&server, over_grpc).await;
        stops_a_run(&server, over_http).await;
    }
    let errors = server.count_log(|line| line["level"] == "ERROR" || line["level"] == "WARN");
    assert_eq!(errors, 0, "clients could fill the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn run_stops_when_its_client_has_gone() {
    let repository = repository("intra_op_threads = 1024");
    let server = Server::start_with(repository.path(), &NO_TIME_LIMITS);
    let body = json_rounds(i64::MAX, json!({}));
    let head = format!("POST /v2/models/slow/infer HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut connection = TcpStream::connect(server.http).unwrap();
    connection.write_all(format!("{head}{body}").as_bytes()).unwrap();
    runs(&server, 1.0).await;
    drop(connection);
    all_answer(&server).await;
    assert_eq!(stopped(&server, "cancelled").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn run_stops_at_max_run_time() {
    let repository = repository("max_run_time = \"2s\"");
    let server = Server::start(repository.path());
    let status = infer(&inference(&server).await, request(i64::MAX)).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    let expected = "model 'slow' version 1: the run was stopped after 2s (max_run_time)";
    assert_eq!(status.message(), expected);
    let answer = post(server.http, "/v2/models/slow/infer", json_rounds(i64::MAX, json!({}))).await;
    assert_eq!((answer.status, answer.error()), (StatusCode::GATEWAY_TIMEOUT, expected.into()));
    assert_eq!(stopped(&server, "max_run_time").await, 2.0);
    server.wait_for_log(|line| line["level"] == "WARN" && line["reason"] == "max_run_time");
    all_answer(&server).await;
}

/// A version whose runs take every CPU waits for one without end; what needs fewer does not wait behind it.
#[tokio::test(flavor = "multi_thread")]
async fn short_runs_pass_a_version_that_waits_for_more_cpus() {
    if std::thread::available_parallelism().unwrap().get() < 2 {
        return eprintln!("skipped: there is one CPU");
    }
    let repository = repository("intra_op_threads = 1");
    let server = Server::start_with(repository.path(), &NO_TIME_LIMITS);
    let client = inference(&server).await;
    let small = |model: &str| raw_request(model, "x", "FP32", &[1, 2], float_bytes(&[1.0, 2.0]));
    let queued = async |model: &str| {
        let label = format!("model=\"{model}\"");
        metric(&server, "onnxd_requests_in_flight", &[&label]).await == 1.0
    };
    let busy = occupy(&server).await;
    let (wide, asked) = (client.clone(), small("wide"));
    let wide = tokio::spawn(async move { infer(&wide, asked).await });
    eventually("the wide one waits", async || queued("wide").await).await;
    for _ in 0..3 {
        assert_eq!(floats(&infer(&client, small("small")).await.unwrap()), [3.0, 4.0]);
    }
    assert!(queued("wide").await && !wide.is_finished());
    busy.release().await;
    assert_eq!(floats(&wide.await.unwrap().unwrap()), [2.0, 3.0]);
}

/// A request that shares a batch with a run without end gets an answer once that is stopped.
#[tokio::test(flavor = "multi_thread")]
async fn endless_request_costs_its_batch_nothing_but_time() {
    let repository =
        repository("batching = \"on\"\nmax_batch_size = 2\nmax_queue_delay = \"1h\"\nmax_run_time = \"2s\"");
    let server = Server::start(repository.path());
    let client = inference(&server).await;
    let (good, endless) = tokio::join!(infer(&client, request(3)), infer(&client, request(i64::MAX)));
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
    fs::write(repository.join(name).join("config.toml"), "max_run_time = \"2s\"").unwrap();
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

fn is_of<'a>(model: &'a str, message: &'a str) -> impl Fn(&serde_json::Value) -> bool + 'a {
    move |line| line["model"] == model && line["message"] == message
}

fn has_failed<'a>(model: &'a str, part: &'a str) -> impl Fn(&serde_json::Value) -> bool + 'a {
    move |line| {
        line["model"] == model
            && field(line, "message").starts_with("load failed")
            && field(line, "error").contains(part)
    }
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
        assert!(log.iter().any(has_failed(model, "did not end within 2s (max_run_time")), "{log:#?}");
        let answer = get(server.http, &format!("/v2/models/{model}/ready")).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    }
}

/// A loaded version is published though other loads go on.
#[tokio::test(flavor = "multi_thread")]
async fn loaded_version_serves_while_another_load_goes_on() {
    let repository = repository("");
    endless().save(&repository.path().join("endless/1/model.onnx"));
    fs::write(repository.path().join("endless/config.toml"), "max_run_time = \"0s\"").unwrap();
    let server = Server::starting(repository.path(), &[]);
    let is_ready = async |model: &str| get(server.http, &format!("/v2/models/{model}/ready")).await.status == 200;
    for model in ["slow", "small", "wide"] {
        eventually("it is ready", async || is_ready(model).await).await;
    }
    assert_eq!(server.count_log(has_failed("endless", "")), 0, "its load goes on");
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
    assert_eq!(server.count_log(has_failed("endless", "")), 0, "its load goes on");
    all_answer(&server).await;
    // The load is not waited for.
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn load_fails_at_its_deadline() {
    let repository = repository("");
    // The limit holds for the other models too, which are loaded before: they have the machine for themselves.
    let mut server =
        Server::start_with(repository.path(), &["--load-timeout", "5s", "--max-run-time", "0s", "--trial", "off"]);
    endless().save(&repository.path().join("endless/1/model.onnx"));
    save_boxes(repository.path(), "boxes", Some((1_000_000, true)));
    for model in ["endless", "boxes"] {
        server.wait_for_log(has_failed(model, "it did not load within 5s (--load-timeout)"));
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
    server.wait_for_log(has_failed("boxes", "a run of it did not end when it was stopped at max_run_time"));
    all_answer(&server).await;
    assert_eq!(metric(&server, "onnxd_abandoned_runs", &[]).await, 1.0);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}
