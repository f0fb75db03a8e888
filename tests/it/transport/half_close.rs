//! Clients that close their side of a connection, and clients that are gone.

use serde_json::json;
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use super::{INFER, assert_well, echo_binary, echo_json, start};
use crate::support::{
    client::metric,
    load::{NO_TIME_LIMITS, occupy, pending, queued},
    server::{Server, WAIT_TIMEOUT, eventually},
};

fn post(path: &str, version: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/{version}\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A request to `slow`.
fn slow(version: &str, headers: &str, rounds: i64) -> Vec<u8> {
    let input = json!({ "name": "iterations", "datatype": "INT64", "shape": [1, 1], "data": [rounds] });
    post("/v2/models/slow/infer", version, headers, json!({ "inputs": [input] }).to_string().as_bytes())
}

fn send(server: &Server, request: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.http).unwrap();
    stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    stream.write_all(request).unwrap();
    stream
}

/// A connection that the client has half-closed after the request.
fn half_closed(server: &Server, request: &[u8]) -> TcpStream {
    let stream = send(server, request);
    stream.shutdown(Shutdown::Write).unwrap();
    stream
}

fn rest(mut stream: TcpStream) -> String {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    String::from_utf8_lossy(&rest).into_owned()
}

/// All that comes to a client that has half-closed its connection.
fn answers(server: &Server, request: &[u8]) -> String {
    rest(half_closed(server, request))
}

/// The header has the request take the way past the plain one.
const ODD: &str = "TE: trailers\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn half_closing_clients_are_answered() {
    let (_repository, server) = start(&[]);
    let body = echo_json(4);
    for headers in ["", ODD, "Connection: close\r\n"] {
        for _ in 0..50 {
            let answer = answers(&server, &post(INFER, "1.1", headers, &body));
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("[0.0,0.0,0.0,0.0]"), "{headers}: {answer}");
        }
    }
    // Several at once.
    let both = [post(INFER, "1.1", "", &body), post(INFER, "1.1", ODD, &body), post(INFER, "1.1", "", &body)].concat();
    assert_eq!(answers(&server, &both).matches("HTTP/1.1 200 ").count(), 3);
    // An answer that no socket's buffers hold.
    let (large, [(name, length)]) = echo_binary(4 << 20);
    let answer = answers(&server, &post(INFER, "1.1", &format!("{name}: {length}\r\n"), &large));
    // It may take so long that an interim response comes first.
    assert!(answer.contains("HTTP/1.1 200 ") && answer.len() > 16 << 20, "{}", answer.len());
    // A request that is cut off is not whole.
    let whole = post(INFER, "1.1", ODD, &body);
    let answer = answers(&server, &whole[..whole.len() - 3]);
    assert!(!answer.contains(" 200 "), "{answer}");
    assert_well(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_closing_clients_wait_for_long_answers() {
    const PROBE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    let (_repository, server) = start(&NO_TIME_LIMITS);
    let busy = occupy(&server).await;
    let requests = [("1.1", ""), ("1.1", ODD), ("1.0", "")];
    let streams = requests.map(|(version, headers)| half_closed(&server, &slow(version, headers, 7)));
    queued(&server, streams.len() as f64).await;
    // The server probes the clients for as long as the answer takes.
    for mut stream in &streams[..2] {
        let mut probe = [0; PROBE.len()];
        stream.read_exact(&mut probe).unwrap();
        assert_eq!(probe, PROBE.as_bytes());
    }
    // A probe of the last one would have come as well: HTTP/1.0 has no interim responses.
    tokio::time::sleep(Duration::from_millis(300)).await;
    busy.release().await;
    for (stream, (version, headers)) in streams.into_iter().zip(requests) {
        let answer = rest(stream);
        assert!(answer.contains(" 200 OK"), "{version} {headers}: {answer}");
        assert!(answer.contains("\"data\":[7]"), "{answer}");
        assert!(!answer.contains("100 Continue"), "{version} {headers}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_are_gone_are_cancelled() {
    let (_repository, server) = start(&NO_TIME_LIMITS);
    let busy = occupy(&server).await;
    let waiting: Vec<_> = ["", ODD].map(|headers| send(&server, &slow("1.1", headers, 1))).into();
    pending(&server, 3.0).await;
    // They say no more than a client that has only finished sending, until they are sent something.
    drop(waiting);
    eventually("both are cancelled", async || {
        metric(&server, "onnxd_requests_total", &["code=\"cancelled\""]).await == 2.0
    })
    .await;
    busy.release().await;
    assert_well(&server).await;
}
