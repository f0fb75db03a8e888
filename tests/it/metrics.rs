//! What Prometheus scrapes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    process::{Command, Stdio},
};
use tempfile::TempDir;

use crate::support::{
    client::{float_bytes, get, infer, inference, metric, post, raw_request},
    onnx,
    server::{Server, eventually},
};

/// Those that the registry tells.
const CONTROL: [(&str, &str, &[&str]); 8] = [
    ("onnxd_traffic_share_ratio", "gauge", &[]),
    ("onnxd_version_state", "gauge", &["state"]),
    ("onnxd_version_generation", "gauge", &[]),
    ("onnxd_version_loads_total", "counter", &["outcome"]),
    ("onnxd_version_load_seconds", "gauge", &[]),
    ("onnxd_version_warm_up_seconds", "gauge", &[]),
    ("onnxd_version_swaps_total", "counter", &[]),
    ("onnxd_version_memory_bytes", "gauge", &[]),
];

/// The families of a version, with what other labels than model and version they have.
const FAMILIES: [(&str, &str, &[&str]); 22] = [
    ("onnxd_requests_total", "counter", &["code"]),
    ("onnxd_routed_requests_total", "counter", &["reason"]),
    ("onnxd_pending_requests", "gauge", &[]),
    ("onnxd_rows_total", "counter", &[]),
    ("onnxd_request_duration_seconds", "histogram", &[]),
    ("onnxd_queue_duration_seconds", "histogram", &[]),
    ("onnxd_input_duration_seconds", "histogram", &[]),
    ("onnxd_run_duration_seconds", "histogram", &[]),
    ("onnxd_output_duration_seconds", "histogram", &[]),
    ("onnxd_batch_rows", "histogram", &[]),
    ("onnxd_load_duration_seconds", "gauge", &[]),
    ("nv_inference_request_success", "counter", &[]),
    ("nv_inference_request_failure", "counter", &["reason"]),
    ("nv_inference_count", "counter", &[]),
    ("nv_inference_exec_count", "counter", &[]),
    ("nv_inference_request_duration_us", "counter", &[]),
    ("nv_inference_queue_duration_us", "counter", &[]),
    ("nv_inference_compute_input_duration_us", "counter", &[]),
    ("nv_inference_compute_infer_duration_us", "counter", &[]),
    ("nv_inference_compute_output_duration_us", "counter", &[]),
    ("nv_inference_pending_request_count", "gauge", &[]),
    ("nv_model_load_duration_secs", "gauge", &[]),
];

async fn scrape(server: &Server) -> String {
    let answer = get(server.metrics, "/metrics").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    String::from_utf8(answer.body.to_vec()).unwrap()
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
async fn names_and_labels_are_as_documented() {
    let repository = TempDir::new().unwrap();
    onnx::add(1.0).save(&repository.path().join("plain/1/model.onnx"));
    onnx::add(1.0).save(&repository.path().join("the \"odd\" \\one/1/model.onnx"));
    let server = Server::start(repository.path());
    let text = scrape(&server).await;
    for (name, kind, extra) in FAMILIES.into_iter().chain(CONTROL) {
        assert_eq!(text.matches(&format!("# HELP {name} ")).count(), 1, "{name}");
        assert_eq!(text.matches(&format!("# TYPE {name} {kind}\n")).count(), 1, "{name}");
        let suffixes = if kind == "histogram" { &["_bucket", "_sum", "_count"][..] } else { &[""] };
        for suffix in suffixes {
            let lines = text.lines().filter(|line| line.starts_with(&format!("{name}{suffix}{{")));
            let mut expected = BTreeSet::from(["model", "version"]);
            expected.extend(extra);
            expected.extend((*suffix == "_bucket").then_some("le"));
            let mut models = BTreeSet::new();
            for line in lines {
                assert_eq!(label_names(line), expected, "{line}");
                models.extend(
                    ["model=\"plain\",", "model=\"the \\\"odd\\\" \\\\one\","]
                        .into_iter()
                        .filter(|model| line.contains(model)),
                );
            }
            assert_eq!(models.len(), 2, "{name}{suffix}");
        }
    }
    let known: BTreeSet<_> = FAMILIES.iter().chain(&CONTROL).map(|(name, ..)| *name).collect();
    let process = [
        "onnxd_unrouted_requests_total",
        "onnxd_build_info",
        "process_start_time_seconds",
        "onnxd_connections",
        "onnxd_connections_refused_total",
        "onnxd_connections_closed_total",
        "onnxd_request_bytes_in_flight",
        "onnxd_request_bytes_budget",
        "onnxd_access_log_dropped_total",
        "onnxd_desired_state_revision",
        // Of models that have weights.
        "onnxd_traffic_weight",
    ];
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split_once(' ').unwrap().0;
        assert!(known.contains(name) || process.contains(&name), "{name} is not in this test's list");
    }
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert_eq!(metric(&server, "onnxd_build_info", &[&version, "onnxruntime=\"ORT Build Info: "]).await, 1.0);
    assert!(metric(&server, "onnxd_load_duration_seconds", &["model=\"plain\""]).await > 0.0);
    lint(&text);
}

/// Prometheus' own opinion of our names; Triton's are as they are.
fn lint(text: &str) {
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
        // A tool of its own, which few machines have: not even ONNXD_TEST_REQUIRE asks for it.
        Err(why) => return eprintln!("SKIPPED the lint of names_and_labels_are_as_documented: promtool: {why}"),
    };
    promtool.stdin.take().unwrap().write_all(ours.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    assert!(said.status.success() && said.stdout.is_empty() && said.stderr.is_empty(), "{said:?}");
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
    let values: BTreeMap<&str, f64> = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(series, value)| (series, value.parse().unwrap()))
        .collect();
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
        (format!("onnxd_pending_requests{{{one}}}"), 0.0),
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

    // Loaded anew it goes on counting where it was: rates see no reset.
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
    fs::remove_dir_all(repository.path().join("add/1")).unwrap();
    eventually("no series is left of the model", async || !scrape(&server).await.contains("model=\"add\"")).await;
    assert_eq!(metric(&server, "onnxd_unrouted_requests_total", &[]).await, 0.0);
}
