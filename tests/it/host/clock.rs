//! A clock that is wrong.

use axum::body::Body;
use http::{Request, StatusCode, Version};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tempfile::TempDir;

use super::{assert_infers, on_host, repository};
use crate::support::{
    client::{get, post_with, send},
    server::Server,
};

#[tokio::test(flavor = "multi_thread")]
async fn clock_outside_of_dates_ends_nothing() {
    for (seconds, date, time) in [
        ("-86400", "Thu, 01 Jan 1970 00:00:00 GMT", "1970-01-01T00:00:00"),
        ("253402387200", "Fri, 31 Dec 9999 23:59:59 GMT", "9999-12-31T23:59:59"),
    ] {
        let (repository, library) = (repository(), TempDir::new().unwrap());
        let log = library.path().join("access.log");
        let command = on_host(library.path(), &[("TEST_CLOCK", seconds)]);
        let server = Server::start_command(command, repository.path(), &["--access-log", log.to_str().unwrap()]);
        assert_infers(&server).await;
        for version in [Version::HTTP_11, Version::HTTP_2] {
            for (path, headers) in [("/v2", None), ("/v2/models/add", Some(("te", "trailers")))] {
                let mut request = Request::get(format!("http://{}{path}", server.http));
                for (name, value) in headers {
                    request = request.header(name, value);
                }
                let client = Client::builder(TokioExecutor::new()).http2_only(version == Version::HTTP_2).build_http();
                let answer = client.request(request.body(Body::empty()).unwrap()).await.unwrap();
                assert_eq!((answer.status(), answer.headers()["date"].as_bytes()), (StatusCode::OK, date.as_bytes()));
            }
        }
        // What asks for a request's id and its times, and a change, which is recorded with its time.
        let body = r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}"#;
        let headers = [("onnxd-server-timing", "1".to_owned())];
        let answer = post_with(server.http, "/v2/models/add/infer", &headers, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let uri = format!("http://{}/admin/v1/models/add/weights", server.admin);
        let request = Request::put(uri).header("content-type", "application/json");
        let changed = send(request.body(Body::from(r#"{"weights":{"1":1}}"#)).unwrap()).await;
        assert!(changed.status.as_u16() < 500, "{changed:?}");
        assert_eq!(get(server.admin, "/admin/v1/models").await.status, StatusCode::OK);
        assert_eq!(get(server.metrics, "/metrics").await.status, StatusCode::OK);
        crate::support::server::eventually("the access log tells it", async || {
            std::fs::read_to_string(&log).is_ok_and(|log| log.contains(time))
        })
        .await;
        assert_eq!(server.count_log(|line| line.to_string().contains("panicked")), 0);
    }
}
