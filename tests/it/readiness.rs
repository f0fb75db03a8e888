//! When the server reports itself ready, over every protocol.

use onnxd::api::proto::{
    ServerReadyRequest,
    health::{HealthCheckRequest, health_check_response::ServingStatus},
};
use serde_json::{Value, json};
use std::{fs, path::Path, process::Output};
use tempfile::TempDir;

use crate::support::{
    client::{get, health, inference, post},
    onnx,
    server::{Server, eventually, field, onnxd},
};

fn write(path: &Path, contents: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

/// Readiness as each protocol reports it; they agree.
async fn is_ready(server: &Server) -> bool {
    let answer = get(server.http, "/v2/health/ready").await;
    let ready = answer.status == 200;
    assert_eq!(answer.json()["ready"], json!(ready), "{answer:?}");
    let mut client = inference(server).await;
    assert_eq!(client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready, ready);
    let whole = HealthCheckRequest { service: String::new() };
    let status = health(server).await.check(whole).await.unwrap().into_inner().status();
    assert_eq!(status, if ready { ServingStatus::Serving } else { ServingStatus::NotServing });
    assert_eq!(asked(server).status.code(), Some(i32::from(!ready)));
    ready
}

/// Output of `onnxd health`.
fn asked(server: &Server) -> Output {
    onnxd().args(["health", "--url", &format!("http://{}", server.http)]).output().unwrap()
}

async fn state(server: &Server, model: &str, version: usize) -> Value {
    get(server.admin, &format!("/admin/v1/models/{model}")).await.json()["versions"][version]["state"].clone()
}

/// True if a line warns that the server is not ready, for this reason and with advice.
fn is_not_ready(line: &Value, why: &str) -> bool {
    line["level"] == "WARN"
        && (field(line, "message"), field(line, "reason")) == ("not ready", why)
        && field(line, "hint").contains("--ready any")
}

/// A repository of a model that serves and one that does not.
fn half_broken() -> TempDir {
    let repository = TempDir::new().unwrap();
    onnx::add(1.0).save(&repository.path().join("good/1/model.onnx"));
    write(&repository.path().join("broken/1/model.onnx"), "no model");
    repository
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_waits_for_every_model_of_the_start() {
    let repository = half_broken();
    let root = repository.path();
    let server = Server::start(root);
    assert!(!is_ready(&server).await);
    let why = "model 'broken' has no version that is READY (version 1 failed to load)";
    assert_eq!(get(server.http, "/v2/health/ready").await.error(), why);
    let said = String::from_utf8(asked(&server).stderr).unwrap();
    assert!(said.contains(why) && said.contains("503"), "{said}");
    server.wait_for_log(|line| is_not_ready(line, why));
    let good = HealthCheckRequest { service: "good".into() };
    assert_eq!(health(&server).await.check(good).await.unwrap().into_inner().status(), ServingStatus::Serving);

    onnx::add(2.0).save(&root.join("broken/1/model.onnx"));
    eventually("it is ready", async || get(server.http, "/v2/health/ready").await.status == 200).await;
    assert!(is_ready(&server).await);
    server.wait_for_log(|line| line["message"] == "ready" && line["target"] == "onnxd::server");

    // A version that fails beside one that serves, and a model that comes later, take nobody out of rotation.
    write(&root.join("good/2/model.onnx"), "no model");
    write(&root.join("later/1/model.onnx"), "no model");
    eventually("both have failed", async || {
        state(&server, "good", 1).await == "FAILED" && state(&server, "later", 0).await == "FAILED"
    })
    .await;
    assert!(is_ready(&server).await);
    // Once it has served it counts, as long as it is there.
    onnx::add(3.0).save(&root.join("later/1/model.onnx"));
    eventually("it serves", async || state(&server, "later", 0).await == "READY").await;
    assert!(is_ready(&server).await);
    fs::remove_dir_all(root.join("later/1")).unwrap();
    eventually("it is gone", async || get(server.http, "/v2/models/later").await.status == 404).await;
    assert!(is_ready(&server).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_follows_its_setting() {
    let (half, whole) = (half_broken(), half_broken());
    fs::remove_dir_all(whole.path().join("good")).unwrap();
    for (when, repository, expected) in [
        ("any", &half, true),
        ("all", &half, false),
        ("started", &half, true),
        ("any", &whole, false),
        ("started", &whole, true),
    ] {
        let mut command = onnxd();
        command.env("ONNXD_READY", when);
        let server = Server::start_command(command, repository.path(), &[]);
        assert_eq!(is_ready(&server).await, expected, "{when}");
    }
    let output = onnxd().args(["config", "--ready", "some"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("expected any, all or started"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_ignores_models_that_an_admin_unloads() {
    let repository = half_broken();
    onnx::add(1.0).save(&repository.path().join("other/1/model.onnx"));
    let server = Server::start(repository.path());
    assert!(!is_ready(&server).await);
    for model in ["broken", "good"] {
        let unload = "{\"version\": 1, \"force\": true}";
        let answer = post(server.admin, &format!("/admin/v1/models/{model}/unload"), unload).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert!(is_ready(&server).await);
    // Nor one that a call asks for later, as long as it has not served.
    let answer = post(server.admin, "/admin/v1/models/broken/load", "{\"version\": 1}").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    eventually("it fails", async || state(&server, "broken", 0).await == "FAILED").await;
    assert!(is_ready(&server).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_of_an_empty_repository_comes_with_a_warning() {
    let repository = TempDir::new().unwrap();
    let server = Server::start(repository.path());
    assert!(is_ready(&server).await);
    let folder = repository.path().to_str().unwrap();
    server.wait_for_log(|line| {
        let warning = field(line, "warning");
        ["holds no models", folder, "MODEL/VERSION/model.onnx"].iter().all(|part| warning.contains(part))
    });
    let any = Server::start_with(repository.path(), &["--ready", "any"]);
    assert!(!is_ready(&any).await);
}

/// A model that is there and has nothing to serve is as bad as one that fails.
#[tokio::test(flavor = "multi_thread")]
async fn readiness_counts_models_without_versions() {
    let repository = TempDir::new().unwrap();
    write(&repository.path().join("hollow/config.toml"), "max_batch_size = 2\n");
    let server = Server::start(repository.path());
    assert!(!is_ready(&server).await);
    let explicit = Server::start_with(repository.path(), &["--model-control", "explicit"]);
    assert!(is_ready(&explicit).await);
}

/// The last line of the start is a command that works.
#[tokio::test(flavor = "multi_thread")]
async fn log_ends_with_a_command_to_try() {
    let repository = half_broken();
    fs::rename(repository.path().join("good"), repository.path().join("it's a good one")).unwrap();
    let server = Server::start(repository.path());
    let line = server.wait_for_log(|line| line["message"] == "first command to try");
    let url = field(&line, "command").strip_prefix("curl -s http://localhost:").unwrap();
    let (port, path) = url.split_once('/').unwrap();
    assert_eq!(port, server.http.port().to_string());
    let answer = get(server.http, &format!("/{path}")).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["name"]), (200, &json!("it's a good one")));
}
