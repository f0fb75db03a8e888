//! The end: whoever was let in is answered.

use http::StatusCode;
use std::{
    error::Error as _,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use tempfile::TempDir;
use tokio::task::{JoinHandle, JoinSet};
use tonic::{Code, Status};

use crate::support::{
    client::{channel, float_bytes, floats, get, health, infer, inference, int64s, metric, raw_request},
    h1::Connection,
    load::{Endless, NO_TIME_LIMITS, occupy, queued, request},
    onnx,
    server::{Server, eventually},
};
use onnxd::api::proto::{
    ServerReadyRequest,
    health::{HealthCheckRequest, health_check_response::ServingStatus},
};

fn start(options: &[&str]) -> (TempDir, Server) {
    let repository = TempDir::new().unwrap();
    onnx::slow().save(&repository.path().join("slow/1/model.onnx"));
    onnx::add(1.0).save(&repository.path().join("add/1/model.onnx"));
    let server = Server::start_with(repository.path(), &[&NO_TIME_LIMITS, options].concat());
    (repository, server)
}

/// True if nothing of the request was processed, by the protocol's own word: the server did not take the connection; or it had
/// said that the connection ends before the request went out on it (what hyper's client calls cancelled), or while it was on
/// its way (GOAWAY with NO_ERROR, RFC 9113 section 6.8).
fn is_refused(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        let went_away = |error: &h2::Error| error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        if error.downcast_ref::<io::Error>().is_some_and(refused)
            || error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
            || error.downcast_ref::<h2::Error>().is_some_and(went_away)
        {
            return true;
        }
        source = error.source();
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_under_load_fails_no_accepted_request() {
    let (_repository, mut server) = start(&[]);
    let answered = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for number in 0..8 {
        let (client, answered) = (inference(&server).await, answered.clone());
        tasks.spawn(async move {
            loop {
                let x = number as f32;
                match infer(&client, raw_request("add", "x", "FP32", &[1, 2], float_bytes(&[x, 0.0]))).await {
                    Ok(answer) => assert_eq!(floats(&answer), [x + 1.0, 1.0]),
                    Err(status) => {
                        assert!(is_refused(&status), "an accepted request failed: {status:?}");
                        return;
                    }
                }
                answered.fetch_add(1, Relaxed);
            }
        });
    }
    for _ in 0..8 {
        let (address, answered) = (server.http, answered.clone());
        tasks.spawn_blocking(move || {
            let body = br#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}"#;
            let mut connection = Connection::open(address).unwrap();
            loop {
                let reply = connection.post("/v2/models/add/infer", body).expect("an accepted request failed");
                assert_eq!(reply.status, 200);
                assert!(String::from_utf8(reply.body).unwrap().contains("[2.0,3.0]"));
                answered.fetch_add(1, Relaxed);
                if reply.closes {
                    match Connection::open(address) {
                        Ok(next) => connection = next,
                        Err(error) => return assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused),
                    }
                }
            }
        });
    }
    eventually("the load runs", async || answered.load(Relaxed) > 500).await;
    server.signal("TERM");
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    assert_eq!(server.wait().code(), Some(0));
}

/// Clients that open a connection for each request meet the moment at which the port closes. What the kernel has let in has
/// been let in.
#[tokio::test(flavor = "multi_thread")]
async fn shutdown_resets_no_accepted_connection() {
    for protocol in ["HTTP/1.1", "HTTP/2"] {
        for _ in 0..2 {
            let (_repository, mut server) = start(&[]);
            let opened = Arc::new(AtomicUsize::new(0));
            let mut tasks = JoinSet::new();
            for _ in 0..8 {
                let (http, grpc, opened) = (server.http, server.grpc, opened.clone());
                tasks.spawn_blocking(move || {
                    while let Some(stream) = connect(if protocol == "HTTP/1.1" { http } else { grpc }) {
                        let answered = if protocol == "HTTP/1.1" { asks_once(stream) } else { shakes_hands(stream) };
                        answered.unwrap_or_else(|error| panic!("{protocol}: let in and not answered: {error}"));
                        opened.fetch_add(1, Relaxed);
                    }
                });
            }
            eventually("clients come and go", async || opened.load(Relaxed) > 100).await;
            server.signal("TERM");
            while let Some(task) = tasks.join_next().await {
                task.unwrap();
            }
            assert_eq!(server.wait().code(), Some(0));
        }
    }
}

/// A connection, unless there is no server any more.
fn connect(address: SocketAddr) -> Option<TcpStream> {
    match TcpStream::connect(address) {
        Ok(stream) => Some(stream),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => None,
        Err(error) => panic!("{error}"),
    }
}

/// One request and its answer.
fn asks_once(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200 ") { Ok(()) } else { Err(io::Error::other(answer)) }
}

/// The beginning of HTTP/2, and the server's: by then it would take requests, or has said that it takes none.
fn shakes_hands(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")?;
    stream.read_exact(&mut [0; 9])
}

/// An endless request that runs, and one for `slow` behind it that answers 7 once the first is released.
async fn occupied(server: &Server) -> (Endless, JoinHandle<Vec<i64>>) {
    let busy = occupy(server).await;
    let client = inference(server).await;
    let waiting = tokio::spawn(async move { int64s(&infer(&client, request(7)).await.unwrap()) });
    queued(server, 1.0).await;
    (busy, waiting)
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_finishes_requests_while_readiness_is_off() {
    let (_repository, mut server) = start(&["--drain-delay", "1h"]);
    let client = inference(&server).await;
    let mut watch = health(&server).await.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    assert_eq!(get(server.http, "/v2/health/ready").await.status, StatusCode::OK);
    let (busy, waiting) = occupied(&server).await;
    server.signal("TERM");
    server.wait_for_log(|line| line["signal"] == "SIGTERM");
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(watch.message().await.unwrap().is_none(), "a watch ends with the server");
    assert_eq!(get(server.http, "/v2/health/ready").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(get(server.http, "/v2/health/live").await.status, StatusCode::OK);
    assert!(!client.clone().server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    // A client that has not noticed yet is still answered.
    let request = raw_request("add", "x", "FP32", &[1, 2], float_bytes(&[1.0, 2.0]));
    assert_eq!(floats(&infer(&client, request).await.unwrap()), [2.0, 3.0]);
    busy.release().await;
    assert_eq!(waiting.await.unwrap(), [7]);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(143), "a second signal ends it at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_waits_for_requests_in_flight() {
    let (_repository, mut server) = start(&["--drain-timeout", "1h"]);
    let (busy, waiting) = occupied(&server).await;
    // Connections that nobody uses hold nothing up.
    let (_idle, _idle_http) = (channel(&server).await, Connection::open(server.http).unwrap());
    server.signal("INT");
    server.wait_for_log(|line| line["signal"] == "SIGINT");
    eventually("no client is let in any more", async || TcpStream::connect(server.http).is_err()).await;
    busy.release().await;
    assert_eq!(waiting.await.unwrap(), [7]);
    assert_eq!(server.wait().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_at_the_drain_timeout() {
    let (_repository, mut server) = start(&["--drain-timeout", "100ms"]);
    let busy = occupy(&server).await;
    server.signal("TERM");
    assert_ne!(busy.status().await.code(), Code::Ok);
    assert_eq!(server.wait().code(), Some(1), "what was in flight was cut off");
    assert_eq!(server.count_log(|line| line["level"] == "ERROR"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_run_does_not_hold_up_shutdown() {
    let (_repository, mut server) = start(&["--drain-timeout", "1h"]);
    let busy = occupy(&server).await;
    server.signal("TERM");
    server.wait_for_log(|line| line["signal"] == "SIGTERM");
    busy.release().await;
    assert_eq!(server.wait().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn second_signal_ends_the_server_at_once() {
    let (_repository, mut server) = start(&["--drain-timeout", "1h"]);
    let busy = occupy(&server).await;
    server.signal("TERM");
    server.wait_for_log(|line| line["signal"] == "SIGTERM");
    server.signal("INT");
    assert_eq!(server.wait().code(), Some(130));
    assert_ne!(busy.status().await.code(), Code::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_reader_blocks_neither_clients_nor_shutdown() {
    let (_repository, mut server) = start(&["--drain-timeout", "2s"]);
    onnx::identity(onnx::FLOAT, &["batch", "length"]).save(&_repository.path().join("echo/1/model.onnx"));
    server.wait_for_log(|line| line["message"] == "ready" && line["model"] == "echo");
    // An answer far larger than what the kernel buffers, that is never read.
    let length = 4 << 20;
    let mut body = format!(
        r#"{{"inputs":[{{"name":"x","shape":[1,{length}],"datatype":"FP32","parameters":{{"binary_data_size":{}}}}}]}}"#,
        length * 4
    )
    .into_bytes();
    let head = format!(
        "POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: {}\r\nContent-Length: {}\r\n\r\n",
        body.len(),
        body.len() + length * 4
    );
    body.resize(body.len() + length * 4, 0);
    let mut stopped = TcpStream::connect(server.http).unwrap();
    stopped.write_all(head.as_bytes()).unwrap();
    stopped.write_all(&body).unwrap();
    eventually("it has been answered", async || {
        metric(&server, "onnxd_requests_total", &["model=\"echo\"", "code=\"ok\""]).await == 1.0
    })
    .await;
    let client = inference(&server).await;
    for x in 0..20 {
        assert!(infer(&client, request(x)).await.is_ok());
    }
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(1), "it was cut off at the limit");
}
