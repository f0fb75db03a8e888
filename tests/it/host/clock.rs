//! A clock that is wrong.

use axum::body::Body;
use http::{Request, StatusCode, Version};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::json;
use std::{fs, net::SocketAddr};
use tempfile::TempDir;

use super::{assert_infers, on_host, repository};
use crate::support::{
    client::Answer,
    server::{Server, eventually},
};
use http_body_util::BodyExt;

const WRONG: [(&str, &str, &str); 2] = [
    ("-86400", "Thu, 01 Jan 1970 00:00:00 GMT", "1970-01-01T00:00:00"),
    ("253402387200", "Fri, 31 Dec 9999 23:59:59 GMT", "9999-12-31T23:59:5"),
];

async fn ask(version: Version, address: SocketAddr, request: http::request::Builder, body: &str) -> Answer {
    let path = request.uri_ref().unwrap().clone();
    let request = request.uri(format!("http://{address}{path}")).body(Body::from(body.to_owned())).unwrap();
    let client = Client::builder(TokioExecutor::new()).http2_only(version == Version::HTTP_2).build_http();
    let (head, body) = client.request(request).await.unwrap().into_parts();
    Answer { status: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_that_is_set_wrong_ends_nothing() {
    for (seconds, date, time) in WRONG {
        let (repository, folder) = (repository(), TempDir::new().unwrap());
        let (log, clock) = (folder.path().join("access.log"), folder.path().join("clock"));
        let command = on_host(folder.path(), &[("TEST_CLOCK_FILE", clock.to_str().unwrap())]);
        let server = Server::start_command(command, repository.path(), &["--access-log", log.to_str().unwrap()]);
        fs::write(&clock, seconds).unwrap();
        assert_infers(&server).await;
        // An id is made for the access log, the times are asked for, and a change is recorded with its time.
        let input = json!({ "name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2] });
        let infer = json!({ "inputs": [input] }).to_string();
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let request = Request::post("/v2/models/add/infer").header("onnxd-server-timing", "1");
            let answer = ask(version, server.http, request, &infer).await;
            assert_eq!((answer.status, answer.headers["date"].as_bytes()), (StatusCode::OK, date.as_bytes()));
        }
        let weights = Request::put("/admin/v1/models/add/weights").header("content-type", "application/json");
        let answer = ask(Version::HTTP_2, server.admin, weights, r#"{"weights":{"1":1}}"#).await;
        assert!(answer.status.as_u16() < 500, "{answer:?}");
        let answer = ask(Version::HTTP_2, server.admin, Request::get("/admin/v1/models"), "").await;
        assert_eq!(answer.status, StatusCode::OK);
        let answer = ask(Version::HTTP_2, server.metrics, Request::get("/metrics"), "").await;
        assert_eq!(answer.status, StatusCode::OK);
        eventually("the access log has its lines", async || {
            fs::read_to_string(&log).is_ok_and(|log| log.matches(time).count() == 3)
        })
        .await;
        assert_eq!(server.count_log(|line| line.to_string().contains("panicked")), 0);
    }
}

#[test]
fn server_does_not_start_with_a_wrong_clock() {
    for (seconds, ..) in WRONG {
        let (repository, folder) = (repository(), TempDir::new().unwrap());
        let clock = folder.path().join("clock");
        fs::write(&clock, seconds).unwrap();
        let mut command = on_host(folder.path(), &[("TEST_CLOCK_FILE", clock.to_str().unwrap())]);
        let output = command.arg("serve").arg(repository.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains("set the clock"), "{said}");
    }
}
