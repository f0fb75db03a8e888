//! A server as a value: started and ended in this process, without a command line.

use onnxd::{
    error::Code,
    metrics::{HistogramSnapshot, Rejection, RequestPhase, StopReason, VersionSnapshot},
    server::{Addresses, Ended, Server, Sockets},
    traffic::Reason,
};
use serde_json::json;
use std::{collections::BTreeMap, net::TcpListener};
use tempfile::TempDir;

use crate::support::{client, embedded::config, onnx};

/// A repository with one model, which adds a number.
fn repository(number: f32) -> TempDir {
    let folder = TempDir::new().unwrap();
    onnx::add(number).save(&folder.path().join("add.onnx"));
    folder
}

/// The model's answer to 1.
async fn ask(addresses: &Addresses) -> f64 {
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 1.0]}]});
    let answer = client::post(addresses.http.unwrap(), "/v2/models/add/infer", body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()["outputs"][0]["data"][0].as_f64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_server_starts_answers_and_shuts_down() {
    let (models, state) = (repository(2.0), TempDir::new().unwrap());
    let server = Server::start(config(models.path(), &state)).await.unwrap();
    server.ready().await;
    assert_eq!(ask(server.addresses()).await, 3.0);
    let http = server.addresses().http.unwrap();
    assert_eq!(server.shutdown().await, Ended::Done { abandoned: 0 });
    assert!(TcpListener::bind(http).is_ok(), "the port is still open");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_in_one_process_do_not_depend_on_each_other() {
    let (first, second) = (repository(1.0), repository(10.0));
    let states = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let first = Server::start(config(first.path(), &states[0])).await.unwrap();
    let second_config = config(second.path(), &states[1]);
    let other = Server::start(second_config.clone()).await.unwrap();
    first.ready().await;
    other.ready().await;
    assert_eq!((ask(first.addresses()).await, ask(other.addresses()).await), (2.0, 11.0));
    assert_eq!(first.shutdown().await, Ended::Done { abandoned: 0 });
    assert_eq!(ask(other.addresses()).await, 11.0);
    assert_eq!(other.shutdown().await, Ended::Done { abandoned: 0 });
    let again = Server::start(second_config).await.unwrap();
    again.ready().await;
    assert_eq!(ask(again.addresses()).await, 11.0);
    assert_eq!(again.shutdown().await, Ended::Done { abandoned: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn server_takes_the_sockets_that_it_is_given() {
    let (models, state) = (repository(2.0), TempDir::new().unwrap());
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let bound = socket.local_addr().unwrap();
    let sockets = Sockets { http: Some(socket), ..Sockets::default() };
    let server = Server::start_on(sockets, config(models.path(), &state), |_| ()).await.unwrap();
    server.ready().await;
    assert_eq!(server.addresses().http, Some(bound));
    assert_eq!(ask(server.addresses()).await, 3.0);
    assert_eq!(server.shutdown().await, Ended::Done { abandoned: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn server_without_a_repository_reports_the_cause() {
    let state = TempDir::new().unwrap();
    let missing = state.path().join("missing");
    let why = Server::start(config(&missing, &state)).await.err().unwrap();
    assert!(why.contains("the model repository") && why.contains("missing"), "{why}");
}

/// Series of the version 1 of the model, by their names and labels, as they follow from its figures.
fn series(figures: &VersionSnapshot) -> BTreeMap<String, f64> {
    let mut series = BTreeMap::new();
    let mut add = |name: &str, label: &str, value: f64| {
        series.insert(format!("{name}{{model=\"add\",version=\"1\"{label}}}"), value);
    };
    let mut add_labelled = |name: &str, label: &str, is: &str, value: u64| {
        add(name, &format!(",{label}=\"{is}\""), value as f64);
    };
    add_labelled("onnxd_requests_total", "code", "ok", figures.succeeded);
    for (code, count) in Code::OF_INFERENCES.iter().zip(figures.failed) {
        add_labelled("onnxd_requests_total", "code", code.label(), count);
    }
    for (reason, count) in Reason::ALL.iter().zip(figures.routed) {
        add_labelled("onnxd_routed_requests_total", "reason", reason.label(), count);
    }
    for (why, count) in Rejection::ALL.iter().zip(figures.rejected) {
        add_labelled("onnxd_rejected_requests_total", "reason", why.label(), count);
    }
    for (why, count) in StopReason::ALL.iter().zip(figures.stopped).filter(|(why, _)| **why != StopReason::LoadEnded) {
        add_labelled("onnxd_runs_stopped_total", "reason", why.label(), count);
    }
    let mut add_distribution = |name: &str, distribution: &HistogramSnapshot, unit: f64| {
        let bounds = distribution.bounds().iter().map(|bound| (*bound as f64 / unit).to_string());
        let mut total = 0;
        for (bound, count) in bounds.chain(["+Inf".into()]).zip(&distribution.buckets) {
            total += count;
            // A distribution without bounds is exported as a summary.
            if !distribution.bounds().is_empty() {
                add(&format!("{name}_bucket"), &format!(",le=\"{bound}\""), total as f64);
            }
        }
        assert_eq!(total, distribution.count());
        add(&format!("{name}_count"), "", total as f64);
        add(&format!("{name}_sum"), "", distribution.sum as f64 / unit);
    };
    add_distribution("onnxd_request_duration_seconds", &figures.request_duration, 1e9);
    add_distribution("onnxd_batch_rows", &figures.batch_rows, 1.0);
    for (phase, name) in RequestPhase::ALL.into_iter().zip(["queue", "input", "run", "output"]) {
        add_distribution(&format!("onnxd_{name}_duration_seconds"), &figures.phase(phase).duration, 1e9);
    }
    for (phase, name) in
        RequestPhase::ALL.into_iter().zip(["queue", "compute_input", "compute_infer", "compute_output"])
    {
        let micros = figures.phase(phase).request_nanoseconds / 1000;
        add(&format!("nv_inference_{name}_duration_us"), "", micros as f64);
    }
    for (name, value) in [
        ("onnxd_runs_abandoned_total", figures.abandoned as f64),
        ("onnxd_requests_in_flight", figures.in_flight as f64),
        ("onnxd_queued_requests", figures.queued_requests as f64),
        ("onnxd_queued_requests_limit", figures.queue_limit as f64),
        ("onnxd_queued_rows", figures.queued_rows as f64),
        ("onnxd_predicted_queue_seconds", figures.queued_work.as_secs_f64()),
        ("onnxd_rows_total", figures.rows as f64),
        ("onnxd_worker_deaths_total", figures.worker_deaths as f64),
        ("onnxd_version_run_memory_refused_total", figures.run_memory_refused as f64),
        ("nv_model_load_duration_secs", figures.load_time.as_secs_f64()),
    ] {
        add(name, "", value);
    }
    series
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_of_a_version_are_those_of_the_scrape() {
    let (models, state) = (repository(2.0), TempDir::new().unwrap());
    let server = Server::start(config(models.path(), &state)).await.unwrap();
    server.ready().await;
    for _ in 0..5 {
        ask(server.addresses()).await;
    }
    let wrong = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1.0, 1.0]}]});
    let http = server.addresses().http.unwrap();
    assert_eq!(client::post(http, "/v2/models/add/infer", wrong.to_string()).await.status, 400);

    let scrape = client::get(server.addresses().metrics.unwrap(), "/metrics").await;
    let text = String::from_utf8(scrape.body.to_vec()).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap());
    let scraped: BTreeMap<&str, f64> = lines.map(|(series, value)| (series, value.parse().unwrap())).collect();
    let figures = server.control().figures("add", 1).unwrap();
    assert_eq!((figures.succeeded, figures.failed[Code::InvalidArgument as usize]), (5, 1));
    assert_eq!(figures.phase(RequestPhase::Run).duration.count(), figures.batch_rows.count());
    for (series, value) in series(&figures) {
        assert_eq!(scraped.get(&*series), Some(&value), "{series} in\n{text}");
    }
    assert_eq!(server.control().figures("add", 2).unwrap_err().code(), Code::NotFound);
    assert_eq!(server.shutdown().await, Ended::Done { abandoned: 0 });
}
