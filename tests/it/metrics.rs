//! Metrics that Prometheus scrapes.

use axum::body::Body;
use http::Request;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read, Write},
    process::{Command, Stdio},
};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::support::{
    client::{float_bytes, get, infer, inference, metric, post, raw_request, send},
    libraries, onnx,
    server::{Server, WAIT_TIMEOUT, eventually, field, onnxd},
};

/// A metric as docs/metrics.md has it, or as the server exports it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Family<'a> {
    name: &'a str,
    kind: &'a str,
    help: &'a str,
    /// But for `le`.
    labels: BTreeSet<&'a str>,
}

/// The rows of the tables of metrics.
fn documented() -> BTreeSet<Family<'static>> {
    let rows = include_str!("../../docs/metrics.md").lines().filter(|line| line.starts_with("| `"));
    let rows = rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    let names = |cell: &'static str| cell.split([',', '`', ' ']).filter(|name| !name.is_empty()).collect();
    let family = |row: Vec<&'static str>| match row[..] {
        [name, kind, _, labels, help] => {
            Some(Family { name: name.trim_matches('`'), kind, help, labels: names(labels) })
        }
        _ => None,
    };
    rows.filter_map(family).collect()
}

/// Families that a text exports.
fn exported(text: &str) -> BTreeSet<Family<'_>> {
    let mut families = BTreeSet::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let (name, help) = line.strip_prefix("# HELP ").unwrap_or_else(|| panic!("{line}")).split_once(' ').unwrap();
        let (named, kind) = lines.next().unwrap().strip_prefix("# TYPE ").unwrap().split_once(' ').unwrap();
        assert_eq!(named, name);
        let suffixes: &[&str] = match kind {
            "histogram" => &["_bucket", "_sum", "_count"],
            "summary" => &["_sum", "_count"],
            _ => &[""],
        };
        let (mut labels, mut seen) = (BTreeSet::new(), BTreeSet::new());
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let suffix =
                line.strip_prefix(name).unwrap_or_else(|| panic!("{line} among {name}")).split(['{', ' ']).next();
            seen.extend(suffix);
            let mut of_line = label_names(line);
            assert_eq!(of_line.remove("le"), suffix == Some("_bucket"), "{line}");
            assert!(labels.is_empty() || labels == of_line, "{line}: all series of a name have the same labels");
            labels = of_line;
        }
        // Not everything has something to report.
        assert!(seen.is_empty() || seen == suffixes.iter().copied().collect(), "{name}: {seen:?}");
        assert!(families.insert(Family { name, kind, help, labels }), "{name} is there twice");
    }
    families
}

/// Families that there are only where there is a GPU.
fn is_of_gpus(name: &str) -> bool {
    ["onnxd_gpu_", "nv_gpu_", "nv_energy_"].iter().any(|prefix| name.starts_with(prefix))
}

fn only(families: BTreeSet<Family<'_>>, wanted: impl Fn(&str) -> bool) -> BTreeSet<Family<'_>> {
    families.into_iter().filter(|family| wanted(family.name)).collect()
}

/// True if a family has series.
fn reported(text: &str, name: &str) -> bool {
    text.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{', '_'])))
}

fn agree(documented: &BTreeSet<Family<'_>>, exported: &BTreeSet<Family<'_>>) {
    let beyond =
        |one: &BTreeSet<_>, other| one.difference(other).map(|family| format!("{family:?}\n")).collect::<String>();
    assert!(
        documented == exported,
        "only documented:\n{}only exported:\n{}",
        beyond(documented, exported),
        beyond(exported, documented)
    );
}

async fn scrape(server: &Server) -> String {
    let answer = get(server.metrics, "/metrics").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    String::from_utf8(answer.body.to_vec()).unwrap()
}

/// The same once this series is exported: a driver that is late with its answer has none.
async fn scrape_with(server: &Server, series: &str) -> String {
    let mut text = String::new();
    let reported = async || {
        text = scrape(server).await;
        text.contains(series)
    };
    eventually(series, reported).await;
    text
}

/// The names of a series' labels; values may hold anything but line ends.
fn label_names(series: &str) -> BTreeSet<&str> {
    let labels = series.split_once('{').map_or("", |(_, labels)| labels);
    let mut names = BTreeSet::new();
    let mut rest = labels;
    while let Some((name, value)) = rest.split_once("=\"") {
        names.insert(name.trim_start_matches(','));
        let end = (0..value.len()).find(|&end| value[end..].starts_with('"') && !value[..end].ends_with('\\'));
        rest = &value[end.unwrap() + 1..];
    }
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn exported_metrics_match_the_documentation() {
    let repository = TempDir::new().unwrap();
    onnx::add(1.0).save(&repository.path().join("plain/1/model.onnx"));
    fs::write(repository.path().join("plain/config.toml"), "[aliases]\nstable = 1\n").unwrap();
    onnx::add(1.0).save(&repository.path().join("the \"odd\" \\one/1/model.onnx"));
    let server = Server::start(repository.path());
    let client = inference(&server).await;
    let request = |model| raw_request(model, "x", "FP32", &[1, 2], float_bytes(&[0.0; 2]));
    infer(&client, request("plain")).await.unwrap();
    infer(&client, request("none")).await.unwrap_err();
    let weights = post(server.admin, "/admin/v1/models/plain/weights", r#"{"weights": {"1": 1}}"#).await;
    assert_eq!(weights.status, 200, "{weights:?}");
    let text = scrape(&server).await;
    let rest = |name: &str| !is_of_gpus(name);
    let (documented, exported) = (only(documented(), rest), only(exported(&text), rest));
    assert!(documented.len() > 50, "{documented:?}");
    agree(&documented, &exported);
    assert!(
        text.contains("onnxd_requests_total{model=\"the \\\"odd\\\" \\\\one\",version=\"1\",code=\"ok\"} 0\n"),
        "{text}"
    );
    lint("exported_metrics_match_the_documentation", &text);

    assert!(exported.iter().all(|family| reported(&text, family.name)), "{text}");

    let values = values(&text);
    let version = format!("onnxd_build_info{{version=\"{}\",onnxruntime=\"ORT Build Info: ", env!("CARGO_PKG_VERSION"));
    assert!(values.keys().any(|series| series.starts_with(&version)), "{text}");
    let value = |series: &str| values[series];
    for positive in [
        "onnxd_ready",
        "onnxd_cpus",
        "onnxd_connections",
        "onnxd_config_hash",
        "onnxd_model_memory_bytes",
        "onnxd_desired_state_revision",
        "onnxd_io_thread_busy_seconds_total{thread=\"0\"}",
        "onnxd_queued_requests_limit{model=\"plain\",version=\"1\"}",
        "onnxd_version_load_seconds{model=\"plain\",version=\"1\"}",
        "onnxd_version_warm_up_seconds{model=\"plain\",version=\"1\"}",
        "nv_model_load_duration_secs{model=\"plain\",version=\"1\"}",
        "process_cpu_seconds_total",
        "process_threads",
    ] {
        assert!(value(positive) > 0.0, "{positive} in\n{text}");
    }
    assert!(value("process_open_fds") < value("process_max_fds"), "{text}");
    assert!(value("process_resident_memory_bytes") < value("process_virtual_memory_bytes"), "{text}");
    assert!(value("onnxd_connections") < value("onnxd_connections_limit"), "{text}");
    let change = value("onnxd_traffic_change_timestamp_seconds{model=\"plain\"}");
    assert_eq!(change, value("onnxd_desired_state_change_timestamp_seconds"));
    assert!(change > value("process_start_time_seconds"), "{text}");
}

/// By a driver's library that is made here. GPUs are numbered as CUDA numbers them, which is not as the driver does.
#[tokio::test(flavor = "multi_thread")]
async fn gpu_metrics_are_exported_with_a_driver() {
    let (repository, libraries) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    onnx::add(1.0).save(&repository.path().join("add/1/model.onnx"));
    libraries::driver(libraries.path());
    let lost = libraries.path().join("lost");
    let start = |visible: Option<&str>| {
        let mut command = onnxd();
        command.env("LD_LIBRARY_PATH", libraries.path()).env("FAKE_NVML_LOST", &lost);
        command.env_remove("CUDA_VISIBLE_DEVICES").env_remove("CUDA_DEVICE_ORDER");
        if let Some(visible) = visible {
            command.env("CUDA_VISIBLE_DEVICES", visible);
        }
        Server::start_command(command, repository.path(), &[])
    };
    let server = start(None);
    let text = scrape_with(&server, "onnxd_gpu_info").await;
    agree(&only(documented(), is_of_gpus), &only(exported(&text), is_of_gpus));
    lint("gpu_metrics_are_exported_with_a_driver", &text);
    let reported = values(&text);
    for (series, expected) in [
        (r#"onnxd_gpu_info{gpu="0",uuid="GPU-aaaaaaaa-1111",name="Fake \"40\""}"#, 1.0),
        (r#"onnxd_gpu_info{gpu="1",uuid="GPU-bbbbbbbb-2222",name="Fake \"80\""}"#, 1.0),
        (r#"onnxd_gpu_utilization_ratio{gpu="0"}"#, 0.1),
        (r#"onnxd_gpu_memory_total_bytes{gpu="1"}"#, (80_u64 << 30) as f64),
        (r#"onnxd_gpu_memory_used_bytes{gpu="0"}"#, (10_u64 << 30) as f64),
        (r#"onnxd_gpu_power_watts{gpu="0"}"#, 123.456),
        (r#"onnxd_gpu_power_limit_watts{gpu="0"}"#, 700.0),
        (r#"nv_gpu_utilization{gpu_uuid="GPU-bbbbbbbb-2222"}"#, 0.3),
        (r#"nv_gpu_memory_total_bytes{gpu_uuid="GPU-aaaaaaaa-1111"}"#, (40_u64 << 30) as f64),
        (r#"nv_gpu_power_usage{gpu_uuid="GPU-aaaaaaaa-1111"}"#, 123.456),
    ] {
        assert_eq!(reported.get(series), Some(&expected), "{series} in\n{text}");
    }
    assert!(reported[r#"onnxd_gpu_energy_joules_total{gpu="0"}"#] >= 5000.0, "{text}");

    // It falls off the bus: there is nothing to report of it, and all else goes on.
    fs::write(&lost, "").unwrap();
    let text = scrape_with(&server, r#"onnxd_gpu_info{gpu="0""#).await;
    assert!(!text.contains(r#"{gpu="1""#), "{text}");
    server.wait_for_log(|line| line["level"] == "WARN" && line["gpu"] == 1 && field(line, "name").starts_with("Fake"));
    fs::remove_file(&lost).unwrap();
    scrape_with(&server, r#"onnxd_gpu_info{gpu="1""#).await;

    // Only what CUDA would see, under its numbers.
    let server = start(Some("GPU-bbbb,0"));
    let text = scrape_with(&server, r#"onnxd_gpu_info{gpu="0",uuid="GPU-bbbbbbbb-2222""#).await;
    assert!(text.contains(r#"onnxd_gpu_info{gpu="1",uuid="GPU-aaaaaaaa-1111""#), "{text}");
    let text = scrape(&start(Some(""))).await;
    assert!(!text.contains("_gpu_"), "{text}");
}

/// A driver that has broken: its calls never end.
#[tokio::test(flavor = "multi_thread")]
async fn hanging_gpu_driver_blocks_no_scrape() {
    let (repository, libraries) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    onnx::add(1.0).save(&repository.path().join("add/1/model.onnx"));
    libraries::driver(libraries.path());
    let hangs = libraries.path().join("hangs");
    let mut command = onnxd();
    command.env("LD_LIBRARY_PATH", libraries.path()).env("FAKE_NVML_HANGS", &hangs).env_remove("CUDA_VISIBLE_DEVICES");
    let mut server = Server::start_command(command, repository.path(), &[]);
    scrape_with(&server, "onnxd_gpu_info").await;
    fs::write(&hangs, "").unwrap();
    for _ in 0..3 {
        let text = timeout(WAIT_TIMEOUT, scrape(&server)).await.expect("a scrape waits for the driver");
        assert!(text.contains("onnxd_ready 1") && !text.contains("_gpu_"), "{text}");
    }
    let reported = |line: &Value| field(line, "error").contains("(NVML) does not answer");
    assert_eq!(server.wait_for_log(reported)["level"], "WARN");
    assert_eq!(server.count_log(reported), 1);
    fs::remove_file(&hangs).unwrap();
    scrape_with(&server, "onnxd_gpu_info").await;

    fs::write(&hangs, "").unwrap();
    scrape(&server).await;
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

/// Prometheus' own opinion of our names; Triton's are as they are.
fn lint(test: &str, text: &str) {
    let ours = |line: &&str| line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ").starts_with("onnxd_");
    let ours: String = text.lines().filter(ours).flat_map(|line| [line, "\n"]).collect();
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut promtool = match promtool {
        Ok(promtool) => promtool,
        Err(why) => {
            assert!(std::env::var_os("ONNXD_TEST_REQUIRE").is_none(), "{test} needs promtool: {why}");
            // Not by eprintln, which is shown only where a test fails.
            let _ = writeln!(io::stderr(), "SKIPPED the lint of {test}: promtool: {why}");
            return;
        }
    };
    promtool.stdin.take().unwrap().write_all(ours.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    assert!(said.status.success() && said.stdout.is_empty() && said.stderr.is_empty(), "{said:?}");
}

/// The series of a text.
fn values(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap());
    lines.map(|(series, value)| (series, value.parse().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn gzip_scrape_has_the_same_content() {
    let repository = TempDir::new().unwrap();
    onnx::add(1.0).save(&repository.path().join("add/1/model.onnx"));
    let server = Server::start(repository.path());
    let ask = async |encoding: &str| {
        let request = Request::get(format!("http://{}/metrics", server.metrics)).header("accept-encoding", encoding);
        send(request.body(Body::empty()).unwrap()).await
    };
    let (plain, packed) = (ask("identity").await, ask("gzip").await);
    assert!(!plain.headers.contains_key("content-encoding") && packed.headers["content-encoding"] == "gzip");
    assert!(packed.body.len() < plain.body.len() / 4, "{} of {}", packed.body.len(), plain.body.len());
    let mut text = String::new();
    flate2::read::GzDecoder::new(&*packed.body).read_to_string(&mut text).unwrap();
    assert_eq!(exported(&text), exported(std::str::from_utf8(&plain.body).unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_show_models_that_do_not_serve() {
    let repository = TempDir::new().unwrap();
    let file = repository.path().join("add/1/model.onnx");
    onnx::add(1.0).save(&file);
    fs::create_dir_all(repository.path().join("broken/1")).unwrap();
    fs::write(repository.path().join("broken/1/model.onnx"), "no model").unwrap();
    fs::write(repository.path().join("broken/config.toml"), "[weights]\n1 = 1\n2 = 1").unwrap();
    fs::create_dir_all(repository.path().join("empty")).unwrap();
    fs::write(repository.path().join("empty/config.toml"), "").unwrap();
    let server = Server::start(repository.path());
    let text = scrape(&server).await;
    let reported = values(&text);
    for (series, expected) in [
        ("onnxd_model_ready_versions{model=\"add\"}", 1.0),
        ("onnxd_model_ready_versions{model=\"broken\"}", 0.0),
        ("onnxd_model_ready_versions{model=\"empty\"}", 0.0),
        ("onnxd_version_state{model=\"add\",version=\"1\",state=\"READY\"}", 1.0),
        ("onnxd_version_state{model=\"broken\",version=\"1\",state=\"FAILED\"}", 1.0),
        ("onnxd_version_last_load_successful{model=\"add\",version=\"1\"}", 1.0),
        ("onnxd_version_last_load_successful{model=\"broken\",version=\"1\"}", 0.0),
        ("onnxd_traffic_weight{model=\"broken\",version=\"1\"}", 1.0),
        ("onnxd_traffic_weight{model=\"broken\",version=\"2\"}", 1.0),
        ("onnxd_model_memory_limit_bytes", f64::INFINITY),
    ] {
        assert_eq!(reported.get(series), Some(&expected), "{series} in\n{text}");
    }

    // A version that fails to be reloaded goes on serving.
    fs::write(&file, "no model").unwrap();
    let labels = ["model=\"add\"", "version=\"1\""];
    eventually("failure is reported", async || {
        metric(&server, "onnxd_version_last_load_successful", &labels).await == 0.0
    })
    .await;
    assert_eq!(metric(&server, "onnxd_model_ready_versions", &labels[..1]).await, 1.0);
    assert_eq!(metric(&server, "onnxd_version_loads_total", &[labels[0], "outcome=\"failed\""]).await, 1.0);
    onnx::add(2.0).save(&file);
    eventually("it is well again", async || {
        metric(&server, "onnxd_version_last_load_successful", &labels).await == 1.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_and_readiness_are_exported() {
    let (repository, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    onnx::add(1.0).save(&repository.path().join("add/1/model.onnx"));
    let state = state.path().to_str().unwrap();
    let start = |limit| {
        Server::start_with(repository.path(), &["--state-dir", state, "--drain-delay", "1h", "--model-memory", limit])
    };
    let servers = [start("1GiB"), start("1GiB"), start("2GiB")];
    let hash = async |server: &Server| metric(server, "onnxd_config_hash", &[]).await;
    let [one, same, other] = &servers;
    assert!(hash(one).await == hash(same).await && hash(one).await != hash(other).await);
    assert_eq!(metric(one, "onnxd_model_memory_limit_bytes", &[]).await, f64::from(1 << 30));
    let size = fs::metadata(repository.path().join("add/1/model.onnx")).unwrap().len();
    assert_eq!(metric(one, "onnxd_model_memory_bytes", &[]).await, size as f64);
    assert_eq!(metric(one, "onnxd_ready", &[]).await, 1.0);
    one.signal("TERM");
    eventually("it drains", async || metric(one, "onnxd_ready", &[]).await == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_once_and_where_they_belong() {
    let repository = TempDir::new().unwrap();
    onnx::add(1.0).save(&repository.path().join("add/1/model.onnx"));
    onnx::add(2.0).save(&repository.path().join("add/2/model.onnx"));
    onnx::lookup().save(&repository.path().join("lookup.onnx"));
    let server = Server::start(repository.path());
    let client = inference(&server).await;
    let add = |rows: i64, version: &str| {
        let mut request = raw_request("add", "x", "FP32", &[rows, 2], float_bytes(&vec![0.0; rows as usize * 2]));
        request.model_version = version.into();
        request
    };
    for (rows, version) in [(1, "1"), (2, "1"), (3, "1"), (1, "")] {
        infer(&client, add(rows, version)).await.unwrap();
    }
    // Refused by its version; before it reached one; and failed in its run.
    infer(&client, raw_request("add", "x", "FP32", &[2], float_bytes(&[0.0; 2]))).await.unwrap_err();
    infer(&client, add(1, "3")).await.unwrap_err();
    infer(&client, add(1, "-1")).await.unwrap_err();
    post(server.http, "/v2/models/add/infer", "{").await;
    let status =
        infer(&client, raw_request("lookup", "x", "INT64", &[1, 1], 9i64.to_le_bytes().into())).await.unwrap_err();
    assert!(
        status.code() == tonic::Code::InvalidArgument
            && status.message().contains("model 'lookup' version 1 failed to run"),
        "{status:?}"
    );

    let text = scrape(&server).await;
    let values = values(&text);
    let one = "model=\"add\",version=\"1\"";
    for (series, expected) in [
        (format!("onnxd_requests_total{{{one},code=\"ok\"}}"), 3.0),
        (format!("onnxd_requests_total{{{one},code=\"invalid_argument\"}}"), 0.0),
        (format!("onnxd_routed_requests_total{{{one},reason=\"pinned\"}}"), 3.0),
        (format!("onnxd_routed_requests_total{{{one},reason=\"default\"}}"), 0.0),
        ("onnxd_routed_requests_total{model=\"add\",version=\"2\",reason=\"default\"}".into(), 2.0),
        (format!("onnxd_rows_total{{{one}}}"), 6.0),
        (format!("onnxd_batch_rows_count{{{one}}}"), 3.0),
        (format!("onnxd_batch_rows_sum{{{one}}}"), 6.0),
        (format!("onnxd_batch_rows_bucket{{{one},le=\"1\"}}"), 1.0),
        (format!("onnxd_batch_rows_bucket{{{one},le=\"2\"}}"), 2.0),
        (format!("onnxd_batch_rows_bucket{{{one},le=\"4\"}}"), 3.0),
        (format!("onnxd_batch_rows_bucket{{{one},le=\"+Inf\"}}"), 3.0),
        (format!("onnxd_request_duration_seconds_count{{{one}}}"), 3.0),
        (format!("onnxd_queue_duration_seconds_count{{{one}}}"), 3.0),
        (format!("onnxd_input_duration_seconds_count{{{one}}}"), 3.0),
        (format!("onnxd_run_duration_seconds_count{{{one}}}"), 3.0),
        (format!("onnxd_output_duration_seconds_count{{{one}}}"), 3.0),
        (format!("onnxd_requests_in_flight{{{one}}}"), 0.0),
        (format!("nv_inference_request_success{{{one}}}"), 3.0),
        (format!("nv_inference_count{{{one}}}"), 6.0),
        (format!("nv_inference_exec_count{{{one}}}"), 3.0),
        (format!("nv_inference_pending_request_count{{{one}}}"), 0.0),
        ("onnxd_requests_total{model=\"add\",version=\"2\",code=\"ok\"}".into(), 1.0),
        ("onnxd_requests_total{model=\"add\",version=\"2\",code=\"invalid_argument\"}".into(), 1.0),
        ("nv_inference_request_failure{model=\"add\",version=\"2\",reason=\"OTHER\"}".into(), 1.0),
        ("onnxd_requests_total{model=\"lookup\",version=\"1\",code=\"invalid_argument\"}".into(), 1.0),
        ("nv_inference_request_failure{model=\"lookup\",version=\"1\",reason=\"OTHER\"}".into(), 1.0),
        ("onnxd_unrouted_requests_total{code=\"not_found\"}".into(), 1.0),
        ("onnxd_unrouted_requests_total{code=\"invalid_argument\"}".into(), 2.0),
    ] {
        assert_eq!(values.get(&*series), Some(&expected), "{series} in\n{text}");
    }
    // Times that Triton's dashboards divide by each other: the whole is not less than its parts.
    let micros = |name: &str| values[&*format!("nv_inference_{name}_duration_us{{{one}}}")];
    let parts = ["queue", "compute_input", "compute_infer", "compute_output"].map(micros);
    assert!(micros("request") >= parts.iter().sum(), "{parts:?} in\n{text}");
    assert!(micros("compute_infer") > 0.0, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn series_live_as_long_as_their_version() {
    let repository = TempDir::new().unwrap();
    for version in [1, 2] {
        onnx::add(1.0).save(&repository.path().join(format!("add/{version}/model.onnx")));
    }
    let server = Server::start(repository.path());
    let client = inference(&server).await;
    let request = || raw_request("add", "x", "FP32", &[1, 2], float_bytes(&[0.0; 2]));
    let count = async |labels: &[&str]| metric(&server, "nv_inference_count", labels).await;
    infer(&client, request()).await.unwrap();
    assert_eq!(count(&["version=\"2\""]).await, 1.0);

    // Reloaded it goes on counting where it was: rates see no reset.
    onnx::add(5.0).save(&repository.path().join("add/2/model.onnx"));
    let mut asked = 1.0;
    eventually("the new file answers", async || {
        asked += 1.0;
        infer(&client, request()).await.unwrap().raw_output_contents[0] == float_bytes(&[5.0, 5.0])
    })
    .await;
    assert_eq!(count(&["version=\"2\""]).await, asked);

    // Its series go with it, all of them, and the other version's stay.
    fs::remove_dir_all(repository.path().join("add/2")).unwrap();
    eventually("no series is left of version 2", async || {
        let text = scrape(&server).await;
        !text.contains("version=\"2\"") && text.contains("model=\"add\",version=\"1\"")
    })
    .await;
    // Unloaded, it is still on the disk.
    onnx::add(3.0).save(&repository.path().join("add/3/model.onnx"));
    eventually("version 3 is there", async || scrape(&server).await.contains("version=\"3\",state=\"READY\"")).await;
    let unloaded = post(server.admin, "/admin/v1/models/add/versions/3/unload", r#"{"force": true}"#).await;
    assert_eq!(unloaded.status, 200, "{unloaded:?}");
    eventually("no series is left of version 3", async || !scrape(&server).await.contains("version=\"3\"")).await;

    fs::remove_dir_all(repository.path().join("add/3")).unwrap();
    fs::remove_dir_all(repository.path().join("add/1")).unwrap();
    eventually("no series is left of the model", async || !scrape(&server).await.contains("model=\"add\"")).await;
    assert_eq!(metric(&server, "onnxd_unrouted_requests_total", &[]).await, 0.0);
}
