//! Versions that the server loads, by its options and by the models' settings, and the reports on them.

use std::{fs, path::Path};
use tempfile::TempDir;

use crate::support::{
    client::{get, metric, reasons},
    onnx,
    server::{Server, eventually, field},
};

async fn is_ready(server: &Server, version: u64) -> bool {
    get(server.http, &format!("/v2/models/add/versions/{version}/ready")).await.status == 200
}

async fn becomes_ready(server: &Server, version: u64) {
    eventually(&format!("version {version} is ready"), async || is_ready(server, version).await).await;
}

fn add(root: &Path, version: u64) {
    onnx::add(version as f32).save(&root.join(format!("add/{version}/model.onnx")));
}

fn config(root: &Path, text: &str) {
    let path = root.join("add/config.new");
    fs::write(&path, text).unwrap();
    fs::rename(path, root.join("add/config.toml")).unwrap();
}

fn error(server: &Server, part: &str) {
    server.wait_for_log(|line| line["level"] == "ERROR" && field(line, "error").contains(part));
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_versions_serve_before_older_ones_unload() {
    let (repository, last) = (TempDir::new().unwrap(), 1000);
    let root = repository.path();
    // Of these, two are loaded.
    (1..=last).for_each(|version| add(root, version));
    config(root, "versions = { latest = 2 }");
    let server = Server::start(root);
    assert!(is_ready(&server, last).await && is_ready(&server, last - 1).await && !is_ready(&server, 1).await);
    assert_eq!(server.count_log(|line| line["message"] == "ready" && line["model"] == "add"), 2);
    let answer = get(server.http, "/v2/models/add/versions/1").await;
    assert!(answer.status == 503 && answer.error().contains("it is not loaded"), "{answer:?}");

    fs::create_dir(root.join("add/1001")).unwrap();
    fs::write(root.join("add/1001/model.onnx"), "not a model").unwrap();
    error(&server, "1001/model.onnx");
    assert!(is_ready(&server, last).await && is_ready(&server, last - 1).await);
    add(root, 1001);
    becomes_ready(&server, 1001).await;
    eventually("the one before the last two goes", async || !is_ready(&server, last - 1).await).await;

    // One that has a name stays, and may be old.
    config(root, "versions = { latest = 1 }\n[aliases]\ncanary = 7");
    becomes_ready(&server, 7).await;
    eventually("only the last is left", async || !is_ready(&server, last).await).await;
    config(root, "versions = [3]");
    becomes_ready(&server, 3).await;
    eventually("only the third is left", async || !is_ready(&server, 1001).await && !is_ready(&server, 7).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn version_loads_once_its_ready_marker_exists() {
    let repository = TempDir::new().unwrap();
    let root = repository.path();
    add(root, 1);
    fs::write(root.join("add/1/READY"), "").unwrap();
    add(root, 2);
    let server = Server::start_with(root, &["--ready-marker", "READY"]);
    assert!(is_ready(&server, 1).await);
    let answer = get(server.http, "/v2/models/add/versions/2").await;
    assert!(answer.error().contains("marker"), "{answer:?}");
    fs::write(root.join("add/2/READY"), "").unwrap();
    becomes_ready(&server, 2).await;
    // While it is rewritten, the one before serves.
    fs::remove_file(root.join("add/2/READY")).unwrap();
    onnx::add(5.0).save(&root.join("add/2/model.onnx"));
    add(root, 3);
    fs::write(root.join("add/3/READY"), "").unwrap();
    becomes_ready(&server, 3).await;
    assert!(is_ready(&server, 2).await);
    assert_eq!(metric(&server, "onnxd_version_loads_total", &["version=\"2\"", "outcome=\"ok\""]).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn model_control_decides_which_versions_load() {
    let repository = TempDir::new().unwrap();
    let root = repository.path();
    add(root, 1);
    let explicit = Server::start_with(root, &["--model-control", "explicit"]);
    assert!(!is_ready(&explicit, 1).await);
    drop(explicit);
    let none = Server::start_with(root, &["--model-control", "none"]);
    let poll = Server::start(root);
    add(root, 2);
    becomes_ready(&poll, 2).await;
    assert!(is_ready(&none, 1).await && !is_ready(&none, 2).await);
    assert_eq!(metric(&poll, "onnxd_version_state", &["version=\"2\"", "state=\"READY\""]).await, 1.0);
    assert_eq!(metric(&poll, "onnxd_traffic_share_ratio", &["version=\"2\""]).await, 1.0);
    assert_eq!(metric(&poll, "onnxd_traffic_share_ratio", &["version=\"1\""]).await, 0.0);
    for name in ["version_generation", "version_load_seconds", "version_warm_up_seconds", "version_memory_bytes"] {
        assert!(metric(&poll, &format!("onnxd_{name}"), &["version=\"1\""]).await > 0.0, "{name}");
    }
    let text = get(poll.metrics, "/metrics").await.body;
    assert!(std::str::from_utf8(&text).unwrap().contains("\nonnxd_desired_state_revision 0\n"));
}

/// Word of the operating system comes long before a look would.
#[tokio::test(flavor = "multi_thread")]
async fn file_notifications_trigger_loads_before_polling() {
    let repository = TempDir::new().unwrap();
    add(repository.path(), 1);
    let server = Server::start_with(repository.path(), &["--poll-interval", "1h"]);
    add(repository.path(), 2);
    becomes_ready(&server, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn load_beyond_the_memory_limit_is_rejected() {
    let repository = TempDir::new().unwrap();
    let root = repository.path();
    add(root, 1);
    let size = fs::metadata(root.join("add/1/model.onnx")).unwrap().len();
    let limit = (size * 3 / 2).to_string();
    let server = Server::start_with(root, &["--model-memory", &limit]);
    onnx::add(8.0).save(&root.join("add/1/model.onnx"));
    error(&server, &format!("of {limit} bytes (--model-memory) {size} bytes are taken"));
    assert!(is_ready(&server, 1).await);
    drop(server);

    let server = Server::start_with(root, &["--model-memory", &limit, "--model-memory-full", "unload-first"]);
    onnx::add(9.0).save(&root.join("add/1/model.onnx"));
    server.wait_for_log(|line| line["level"] == "WARN" && field(line, "message").contains("unloaded first"));
    becomes_ready(&server, 1).await;
    add(root, 2);
    error(&server, "--model-memory");
    assert!(is_ready(&server, 1).await);
}

/// A version that made room for a successor which can't be loaded serves nobody, and says so; others are not touched, and it
/// comes back with a file that is right.
#[tokio::test(flavor = "multi_thread")]
async fn version_unloaded_for_a_failed_load_reports_it() {
    let repository = TempDir::new().unwrap();
    let root = repository.path();
    (1..=2).for_each(|version| add(root, version));
    config(root, "[weights]\n1 = 50\n2 = 50");
    let size = fs::metadata(root.join("add/1/model.onnx")).unwrap().len();
    let limit = (size * 5 / 2).to_string();
    let server = Server::start_with(root, &["--model-memory", &limit, "--model-memory-full", "unload-first"]);
    let size = usize::try_from(size).unwrap();
    // A file that is no model at all is seen before.
    fs::write(root.join("add/2/model.onnx"), "no model".repeat(size).split_at(size).0).unwrap();
    error(&server, "it seems to be text");
    assert!(is_ready(&server, 2).await);
    let garbage = vec![0xff; size];
    fs::write(root.join("add/2/model.onnx"), garbage).unwrap();
    server.wait_for_log(|line| line["level"] == "WARN" && field(line, "message").contains("unloaded first"));
    error(&server, "it is no complete ONNX model");
    let pinned = get(server.http, "/v2/models/add/versions/2").await;
    assert!(pinned.status == 503 && pinned.error().contains("it failed to load"), "{pinned:?}");
    assert!(reasons(&server, "add").await.contains("it is no complete ONNX model"));
    let model = get(server.admin, "/admin/v1/models/add").await.json();
    assert_eq!(model["versions"][1]["state"], "FAILED", "{model}");
    assert_eq!((&model["versions"][0]["share"], &model["versions"][1]["share"]), (&1.0.into(), &0.0.into()), "{model}");
    add(root, 2);
    becomes_ready(&server, 2).await;
    let model = get(server.admin, "/admin/v1/models/add").await.json();
    assert_eq!(model["versions"][1]["share"], 0.5, "{model}");
}

/// Loads step aside; what serves does not.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn threads_that_serve_are_at_normal_priority() {
    let repository = TempDir::new().unwrap();
    let root = repository.path();
    add(root, 1);
    config(root, "intra_op_threads = 2");
    let server = Server::start(root);
    let niceness = || {
        let threads = fs::read_dir(format!("/proc/{}/task", server.id())).unwrap();
        let stat = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The name may hold anything; nice is the 19th field, the second of what follows it the third.
        let nice = |stat: String| stat.rsplit_once(')').map(|(_, rest)| rest.split(' ').nth(17).unwrap().to_owned());
        threads.filter_map(|thread| nice(stat(thread.unwrap()))).collect::<std::collections::BTreeSet<_>>()
    };
    let before = niceness();
    let others = "all but the thread that answers scrapers and those for large requests are equal";
    assert_eq!(before.len(), 3, "{others}: {before:?}");
    for number in 2..6 {
        onnx::add(number as f32).save(&root.join("add/1/model.onnx"));
        let swaps = f64::from(number - 1);
        eventually("it is swapped in", async || metric(&server, "onnxd_version_swaps_total", &[]).await == swaps).await;
        eventually("no thread is left behind", async || niceness() == before).await;
    }
}
