//! Versions are replaced under load, and no request fails for it.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};
use tempfile::{NamedTempFile, TempDir};
use tokio::task::JoinSet;

use crate::support::{
    client::{float_bytes, floats, get, infer, inference, metric, raw_request},
    h1::Connection,
    onnx,
    server::{Server, eventually},
};

/// Clients of both protocols that ask `add` for `0 + number` without a pause, and take any number that was ever there.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

impl Load {
    async fn start(server: &Server) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let (client, stop, answered) = (inference(server).await, stop.clone(), answered.clone());
            tasks.spawn(async move {
                while !stop.load(Relaxed) {
                    let request = raw_request("add", "x", "FP32", &[1, 2], float_bytes(&[0.0, 10.0]));
                    let answer = floats(&infer(&client, request).await.expect("a request failed"));
                    assert!(answer[0] >= 1.0 && answer[1] == answer[0] + 10.0, "{answer:?}");
                    answered.fetch_add(1, Relaxed);
                }
            });
        }
        for _ in 0..2 {
            let (address, stop, answered) = (server.http, stop.clone(), answered.clone());
            tasks.spawn_blocking(move || {
                let mut connection = Connection::open(address).unwrap();
                let body = br#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[0,10]}]}"#;
                while !stop.load(Relaxed) {
                    let reply = connection.post("/v2/models/add/infer", body).expect("a request failed");
                    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
                    answered.fetch_add(1, Relaxed);
                }
            });
        }
        let load = Load { stop, answered, tasks };
        load.goes_on().await;
        load
    }

    /// Waits until more has been answered.
    async fn goes_on(&self) {
        let before = self.answered.load(Relaxed);
        eventually("the load goes on", async || self.answered.load(Relaxed) > before + 50).await;
    }

    async fn end(mut self) {
        self.stop.store(true, Relaxed);
        while let Some(task) = self.tasks.join_next().await {
            task.unwrap();
        }
    }
}

/// The answer to `0 + number`.
async fn number(server: &Server, version: &str) -> f32 {
    let mut request = raw_request("add", "x", "FP32", &[1, 2], float_bytes(&[0.0, 0.0]));
    request.model_version = version.into();
    floats(&infer(&inference(server).await, request).await.unwrap())[0]
}

/// Replaces a file at once, by one that was written where it does not count.
fn rename_over(path: &Path, contents: &[u8]) {
    let mut aside = NamedTempFile::new().unwrap();
    aside.write_all(contents).unwrap();
    aside.persist(path).unwrap();
}

fn repository() -> (TempDir, PathBuf) {
    let repository = TempDir::new().unwrap();
    let path = repository.path().join("add/1/model.onnx");
    onnx::add(1.0).save(&path);
    (repository, path)
}

#[tokio::test(flavor = "multi_thread")]
async fn file_replacement_under_load_fails_no_request() {
    let (repository, path) = repository();
    let server = Server::start(repository.path());
    let load = Load::start(&server).await;
    for swap in 2..=9 {
        let contents = onnx::add(swap as f32).encode();
        if swap % 2 == 0 {
            rename_over(&path, &contents)
        } else {
            fs::write(&path, contents).unwrap()
        }
        eventually("the new file serves", async || number(&server, "").await == swap as f32).await;
        load.goes_on().await;
    }
    load.end().await;
    // One that is written in place may rest while it is empty, and is refused then.
    let loaded = async || metric(&server, "onnxd_version_loads_total", &["model=\"add\"", "outcome=\"ok\""]).await;
    eventually("the last load is counted", async || loaded().await >= 9.0).await;
    assert_eq!(loaded().await, 9.0, "each file was loaded once");
    // The counters went on through the swaps.
    assert!(metric(&server, "onnxd_requests_total", &["code=\"ok\""]).await > 8.0 * 50.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_file_does_not_replace_a_good_one() {
    let (repository, path) = repository();
    let server = Server::start(repository.path());
    let load = Load::start(&server).await;
    let good = fs::read(&path).unwrap();
    for bad in [&b""[..], b"not a model", &good[..good.len() / 2]] {
        let before = server.count_log(|line| line["level"] == "ERROR");
        rename_over(&path, bad);
        eventually("the refusal is logged", async || server.count_log(|line| line["level"] == "ERROR") > before).await;
        assert_eq!(number(&server, "").await, 1.0);
        load.goes_on().await;
    }
    rename_over(&path, &onnx::add(5.0).encode());
    eventually("a good file serves again", async || number(&server, "").await == 5.0).await;
    load.end().await;
}

/// Weights beside the model are the version's own once they are loaded, whatever is done to their file.
#[tokio::test(flavor = "multi_thread")]
async fn overwritten_weights_do_not_reach_the_serving_version() {
    const SIZE: usize = 1 << 20;
    let repository = TempDir::new().unwrap();
    let mut graph = onnx::add(0.0);
    graph.initializer = vec![onnx::external_floats("number", &[SIZE as i64], "weights.bin")];
    graph.input = vec![onnx::value("x", onnx::FLOAT, &["batch", "1"])];
    graph.output = vec![onnx::value("y", onnx::FLOAT, &["batch", &SIZE.to_string()])];
    let weights = repository.path().join("add/1/weights.bin");
    graph.save(&repository.path().join("add/1/model.onnx"));
    fs::write(&weights, float_bytes(&[1.0; SIZE])).unwrap();
    let server = Server::start(repository.path());
    // Nothing of the model is reloaded meanwhile.
    fs::write(repository.path().join("add/config.toml"), "[").unwrap();
    server.wait_for_log(|line| line["level"] == "ERROR" && line["model"] == "add");
    let client = inference(&server).await;
    let last = async || {
        let answer = infer(&client, raw_request("add", "x", "FP32", &[1, 1], float_bytes(&[0.0]))).await.unwrap();
        floats(&answer)[SIZE - 1]
    };
    assert_eq!(last().await, 1.0);
    let mut file = fs::File::options().write(true).open(&weights).unwrap();
    file.write_all(&float_bytes(&[2.0; SIZE])).unwrap();
    assert_eq!(last().await, 1.0);
    file.set_len(0).unwrap();
    assert_eq!(last().await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_come_and_go_under_load() {
    let (repository, _) = repository();
    let server = Server::start(repository.path());
    let load = Load::start(&server).await;
    for round in 0..3 {
        let folder = repository.path().join("add/2");
        // The folder is there before its file, as when it is copied.
        fs::create_dir(&folder).unwrap();
        onnx::add(7.0).save(&folder.join("model.onnx"));
        eventually("the highest version serves", async || number(&server, "").await == 7.0).await;
        assert_eq!(number(&server, "1").await, 1.0);
        load.goes_on().await;
        fs::remove_dir_all(&folder).unwrap();
        eventually("the version below serves", async || number(&server, "").await == 1.0).await;
        load.goes_on().await;
        let unloaded = |line: &serde_json::Value| {
            line["version"] == 2 && line["message"] == "version unloaded" && line["reason"] == "its files are gone"
        };
        server.wait_for_logs(round + 1, unloaded);
    }
    load.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_version_does_not_replace_a_stable_one() {
    let (repository, _) = repository();
    let config = repository.path().join("add/config.toml");
    fs::write(&config, "[aliases]\nstable = 1\n").unwrap();
    let server = Server::start(repository.path());
    let load = Load::start(&server).await;
    onnx::add(2.0).save(&repository.path().join("add/2/model.onnx"));
    server.wait_for_log(|line| line["message"] == "ready" && line["version"] == 2);
    assert_eq!(number(&server, "2").await, 2.0);
    assert_eq!(number(&server, "").await, 1.0);
    rename_over(&config, b"[aliases]\nstable = 2\n");
    eventually("stable has moved", async || number(&server, "").await == 2.0).await;
    let generation = async || get(server.http, "/v2/models/add").await.json()["properties"]["generation"].clone();
    let before = generation().await;
    onnx::add(3.0).save(&repository.path().join("add/3/model.onnx"));
    server.wait_for_log(|line| line["message"] == "ready" && line["version"] == 3);
    // Settings that can't be read are not the defaults.
    rename_over(&config, b"[aliases]\nstable = ");
    server.wait_for_log(|line| line["level"] == "ERROR" && line["model"] == "add");
    load.goes_on().await;
    assert_eq!(number(&server, "").await, 2.0);
    assert_eq!(generation().await, before, "nothing was loaded for that");
    load.end().await;
}
