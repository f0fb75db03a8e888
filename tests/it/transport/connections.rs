//! There are only so many connections.

use http::{Request, StatusCode};
use onnxd::api::proto::health::HealthCheckRequest;
use std::{
    io::{ErrorKind, Read},
    net::{SocketAddr, TcpStream},
};
use tonic::Code;

use super::{INFER, echo, echo_json, start};
use crate::support::{
    client::{get, health, infer, inference, metric, post},
    h1::Connection,
    h2,
    server::{Server, WAIT_TIMEOUT, eventually},
};

/// True if the server closes the connection without a word, whatever is in the way.
fn is_closed(mut stream: TcpStream) -> bool {
    stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    let mut byte = [0];
    match stream.read(&mut byte) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

const HEALTH: &[u8] = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n";

async fn open(server: &Server) -> f64 {
    metric(server, "onnxd_connections", &[]).await
}

async fn evicted(server: &Server) -> f64 {
    metric(server, "onnxd_connections_closed_total", &["evicted"]).await
}

/// Timeout of the server for bodies, so that `busy` keeps its places.
const PATIENT: [&str; 2] = ["--body-timeout", "10m"];

/// Connections that keep their places: the body of a request is on its way on each.
fn busy(server: &Server, count: usize) -> Vec<Connection> {
    let mut connections: Vec<_> = (0..count).map(|_| Connection::open(server.http).unwrap()).collect();
    for connection in &mut connections {
        connection.send(format!("POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{{").as_bytes()).unwrap();
    }
    connections
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_make_room_for_new_ones() {
    let (_repository, server) = start(&["--max-connections", "8"]);
    // Some have said nothing, some have asked for something, and some speak HTTP/2.
    let mut silent: Vec<_> =
        [server.http, server.grpc, server.http].map(|address| TcpStream::connect(address).unwrap()).into();
    let mut asked: Vec<_> = (0..3).map(|_| Connection::open(server.http).unwrap()).collect();
    for connection in &mut asked {
        connection.send(HEALTH).unwrap();
        assert_eq!(connection.reply().unwrap().status, 200);
    }
    let http2: Vec<_> = (0..2).map(|_| h2::Connection::open(server.grpc)).collect();
    eventually("all are there", async || open(&server).await == 8.0).await;
    eventually("new clients are served", async || {
        post(server.http, INFER, echo_json(4)).await.status == StatusCode::OK
    })
    .await;
    // One after the other, each a client of its own, which stays.
    let mut clients = Vec::new();
    eventually("all idle connections were closed", async || {
        let client = inference(&server).await;
        if infer(&client, echo(4)).await.is_ok() {
            clients.push(client);
        }
        evicted(&server).await >= 8.0
    })
    .await;
    silent.drain(..).for_each(|stream| assert!(is_closed(stream)));
    for mut connection in http2 {
        assert!(connection.read_until(h2::GOAWAY).is_ok());
    }
    assert!(open(&server).await <= 8.0 + 128.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_answers_at_the_connection_limit() {
    let (_repository, server) = start(&[&["--max-connections", "4"], &PATIENT[..]].concat());
    let _busy = busy(&server, 4);
    eventually("all are there", async || open(&server).await == 4.0).await;
    for path in ["/v2/health/live", "/v2/health/ready", "/v2/models/echo", "/v2"] {
        let answer = get(server.http, path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
        assert_eq!(answer.headers["connection"], "close");
    }
    health(&server).await.check(HealthCheckRequest::default()).await.unwrap();
    let refused = post(server.http, INFER, echo_json(4)).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.error().contains("4 connections are open and none is idle (--max-connections)"), "{refused:?}");
    assert!(refused.headers.contains_key("retry-after"));
    let status = infer(&inference(&server).await, echo(4)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("--max-connections"), "{status}");
    // Its first request is its last.
    let mut connection = Connection::open(server.http).unwrap();
    connection.send(&HEALTH.repeat(2)).unwrap();
    assert!(connection.reply().unwrap().closes);
    assert!(connection.reply().is_err());

    assert!(metric(&server, "onnxd_connections_refused_total", &["limit=\"total\""]).await >= 8.0);
    let refusal = |line: &serde_json::Value| line["message"] == "connection rejected";
    server.wait_for_log(refusal);
    assert!(server.count_log(refusal) < 8, "not of every one");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_connections_are_not_held_by_one_client() {
    let (_repository, server) = start(&[&["--max-connections", "2"], &PATIENT[..]].concat());
    let _busy = busy(&server, 2);
    eventually("all are there", async || open(&server).await == 2.0).await;
    // Clients that connect and say nothing have few of them, and not for long.
    let silent: Vec<_> = (0..16).map(|_| TcpStream::connect(server.http).unwrap()).collect();
    eventually("they are there", async || open(&server).await == 18.0).await;
    assert!(is_closed(TcpStream::connect(server.http).unwrap()));
    silent.into_iter().for_each(|stream| assert!(is_closed(stream)));
    eventually("health answers", async || {
        let request = Request::get(format!("http://{}/v2/health/live", server.http));
        let request = request.body(axum::body::Body::empty()).unwrap();
        let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new());
        client.build_http().request(request).await.is_ok_and(|answer| answer.status() == StatusCode::OK)
    })
    .await;
}

/// Clients of other addresses have places that one address can't take.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn client_has_a_limit_of_its_own() {
    let (_repository, server) = start(&[&["--max-connections-per-client", "3"], &PATIENT[..]].concat());
    let busy = busy(&server, 3);
    eventually("all are there", async || open(&server).await == 3.0).await;
    let refused = post(server.http, INFER, echo_json(4)).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    let says = "3 connections of this address are open and none is idle (--max-connections-per-client)";
    assert!(refused.error().contains(says), "{refused:?}");
    assert_eq!(metric(&server, "onnxd_connections_refused_total", &["limit=\"client\""]).await, 1.0);
    assert_eq!(metric(&server, "onnxd_connections_refused_total", &["limit=\"total\""]).await, 0.0);
    // Every address of 127.0.0.0/8 is this machine.
    let mut other = from_other_address(server.http);
    let body = echo_json(4);
    let head = format!("POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    other.send(&[head.as_bytes(), &body].concat()).unwrap();
    let reply = other.reply().unwrap();
    assert!(reply.status == 200 && !reply.closes);
    // Its own idle connections make room for it.
    drop(busy);
    eventually("they have gone", async || open(&server).await == 1.0).await;
    let idle: Vec<_> = (0..3).map(|_| TcpStream::connect(server.http).unwrap()).collect();
    eventually("they are there", async || open(&server).await == 4.0).await;
    eventually("they make room", async || post(server.http, INFER, echo_json(4)).await.status == StatusCode::OK).await;
    assert!(evicted(&server).await >= 1.0);
    drop((idle, other));
}

fn from_other_address(address: SocketAddr) -> Connection {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    Connection::over(socket.into())
}
