//! A host on which no thread can be started.

use http::StatusCode;
use tempfile::TempDir;

use super::{assert_infers, on_host, repository};
use crate::support::{
    client::{get, metric},
    onnx,
    server::{Server, eventually},
};

#[tokio::test(flavor = "multi_thread")]
async fn server_goes_on_where_no_thread_can_be_started() {
    let (repository, folder) = (repository(), TempDir::new().unwrap());
    let flag = folder.path().join("none");
    let command = on_host(folder.path(), &[("TEST_NO_THREADS_FILE", flag.to_str().unwrap())]);
    let server = Server::start_command(command, repository.path(), &[]);
    std::fs::write(&flag, "").unwrap();
    // The first admin call of all.
    assert_eq!(get(server.admin, "/admin/v1/models").await.status, StatusCode::OK);
    assert_infers(&server).await;
    assert_eq!(get(server.metrics, "/metrics").await.status, StatusCode::OK);
    // A load needs a thread: it is tried again until there is one.
    onnx::add(2.0).save(&repository.path().join("more/1/model.onnx"));
    server.wait_for_log(|line| line.to_string().contains("no thread can be started"));
    std::fs::remove_file(&flag).unwrap();
    eventually("it is loaded then", async || get(server.http, "/v2/models/more/ready").await.status == StatusCode::OK)
        .await;
    assert_eq!(server.count_log(|line| line.to_string().contains("panicked")), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_polled_where_the_watcher_has_no_thread() {
    let (repository, folder) = (repository(), TempDir::new().unwrap());
    let command = on_host(folder.path(), &[("TEST_NO_THREADS_AFTER_INOTIFY", "1")]);
    let server = Server::start_command(command, repository.path(), &[]);
    server.wait_for_log(|line| {
        line["message"] == "file notifications unavailable, polling" && line["interval"] == "50ms"
    });
    assert_infers(&server).await;
    assert_eq!(get(server.admin, "/admin/v1/models").await.status, StatusCode::OK);
    // A new version is found without a notification, and there is no thread to load it.
    onnx::add(2.0).save(&repository.path().join("more/1/model.onnx"));
    server.wait_for_log(|line| line.to_string().contains("no thread can be started"));
    assert_infers(&server).await;
    assert_eq!(metric(&server, "onnxd_ready", &[]).await, 1.0);
}
