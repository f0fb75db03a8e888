//! A version that ends the server itself is remembered.

use http::StatusCode;
use std::os::unix::process::ExitStatusExt;
use tempfile::TempDir;

use super::{add_of, modulo, modulo_of, save};
use crate::support::{
    client::{get, post},
    onnx,
    server::{Server, eventually},
};

/// Has a server die of the request that ends the process.
async fn end(server: &mut Server) {
    let address = server.http;
    // Nobody answers.
    let _ = tokio::spawn(async move {
        let input = |name, number: i64| serde_json::json!({ "name": name, "datatype": "INT64", "shape": [1], "data": [number] });
        let body = serde_json::json!({ "inputs": [input("a", i64::MIN), input("b", -1)] });
        post(address, "/v2/models/modulo/infer", body.to_string()).await
    })
    .await;
    assert_eq!(server.wait().signal(), Some(libc::SIGFPE));
}

#[tokio::test]
async fn version_that_ends_the_server_twice_is_quarantined() {
    let (repository, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    save(modulo(), repository.path(), "modulo", "isolation = \"none\"\n");
    save(onnx::add(1.0), repository.path(), "add", "");
    let start = || Server::start_with(repository.path(), &["--state-dir", state.path().to_str().unwrap()]);
    let mut server = start();
    end(&mut server).await;
    let mut server = start();
    server.wait_for_log(|line| {
        line["message"] == "server was ended by this version" && line["model"] == "modulo" && line["signal"] == "SIGFPE"
    });
    assert_eq!(modulo_of(&server, 7, 4).await.status, StatusCode::OK, "once is no habit");
    end(&mut server).await;

    let server = start();
    let status = get(server.admin, "/admin/v1/models/modulo").await.json();
    assert_eq!(status["versions"][0]["state"], "FAILED", "{status}");
    let problem = status["versions"][0]["problem"].as_str().unwrap();
    assert!(problem.contains("ended the server 2 times") && problem.contains("SIGFPE"), "{problem}");
    assert_eq!(add_of(&server, 1.0).await.status, StatusCode::OK);

    assert_eq!(post(server.admin, "/admin/v1/models/modulo/load", "{}").await.status, StatusCode::OK);
    eventually("it answers again", async || modulo_of(&server, 7, 4).await.status == StatusCode::OK).await;
    drop(server);
    let server = start();
    assert_eq!(modulo_of(&server, 7, 4).await.status, StatusCode::OK);
}
