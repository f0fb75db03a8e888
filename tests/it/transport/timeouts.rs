//! Clients that don't go on are not waited for; those that wait for an answer are.

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Version};
use prost::Message;
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};
use tonic::Code;

use super::{INFER, MODEL_INFER, ask, assert_well, call, echo, echo_binary, framed, start};
use crate::support::{
    client::{floats, infer, inference, metric},
    h1::Connection,
    load::{NO_TIME_LIMITS, occupy, queued, request},
    server::{Server, WAIT_TIMEOUT, eventually},
};

/// Long enough for clients that go on though they have to wait for the CPU.
const TIMEOUTS: [&str; 8] =
    ["--header-timeout", "1s", "--idle-timeout", "2s", "--body-timeout", "1s", "--write-timeout", "1s"];

/// Bytes that come until the connection ends.
fn rest(mut stream: TcpStream) -> String {
    stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("the connection does not end"),
        _ => String::from_utf8_lossy(&rest).into_owned(),
    }
}

fn connect(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

async fn closed(server: &Server, reason: &str) -> f64 {
    metric(server, "onnxd_connections_closed_total", &[reason]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_clients_time_out_and_waiting_ones_do_not() {
    let (_repository, server) = start(&[&TIMEOUTS[..], &NO_TIME_LIMITS].concat());
    // Connections over gRPC rest for as long as they like, before their first call and between calls.
    let (young, resting) = (inference(&server).await, inference(&server).await);
    infer(&resting, echo(4)).await.unwrap();
    // And requests wait for their answer.
    let busy = occupy(&server).await;
    let waiting = inference(&server).await;
    let waiting = tokio::spawn(async move { infer(&waiting, request(1)).await });
    let mut waiting_too = Connection::open(server.http).unwrap();
    let slow = br#"{"inputs":[{"name":"iterations","shape":[1,1],"datatype":"INT64","data":[1]}]}"#;
    let head = format!("POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", slow.len());
    waiting_too.send(&[head.as_bytes(), slow].concat()).unwrap();
    queued(&server, 2.0).await;

    let heads: [(&str, &[u8]); 6] = [
        ("nothing", b""),
        ("a letter", b"P"),
        ("half a line", b"POST /v2/mo"),
        ("half a head", b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nX-More"),
        ("half a preface", b"PRI * HTTP/2.0\r\n"),
        ("a preface alone", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ];
    for address in [server.http, server.grpc] {
        // All at once: each takes its time.
        let streams = heads.map(|(what, bytes)| (what, connect(address, bytes)));
        for (what, stream) in streams {
            let came = rest(stream);
            // HTTP/2 begins with the server's settings, whoever listens.
            assert!(what.contains("preface") || came.is_empty(), "{what}: {came}");
        }
    }
    assert_eq!(closed(&server, "headers").await, 12.0);

    let head = "GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = rest(connect(server.http, head.as_bytes()));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(closed(&server, "idle").await >= 1.0, "others may have rested meanwhile");
    let answer = rest(connect(server.http, format!("{head}GET /v2").as_bytes()));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    assert_well(&server).await;
    busy.release().await;
    assert_eq!(waiting_too.reply().unwrap().status, 200);
    assert!(waiting.await.unwrap().is_ok());
    assert_eq!(floats(&infer(&young, echo(4)).await.unwrap()), floats(&infer(&resting, echo(4)).await.unwrap()));
}

/// A body that never ends, of a piece now and then.
fn dripping() -> Body {
    let drops = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        Some((Ok::<_, io::Error>(Bytes::from_static(b" ")), ()))
    });
    Body::from_stream(drops)
}

/// A body of which this comes, and no more.
fn stuck(beginning: Vec<u8>) -> Body {
    Body::from_stream(stream::iter([Ok::<_, io::Error>(beginning)]).chain(stream::pending()))
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_bodies_time_out() {
    let (_repository, server) = start(&TIMEOUTS);
    let mut refused = 0.0;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        for (what, body) in [("nothing", stuck(vec![])), ("a byte", stuck(vec![b'{'])), ("drops", dripping())] {
            let answer = ask(server.http, version, INFER, &[], body).await;
            assert_eq!(answer.status, 408, "{what}: {answer:?}");
            assert!(answer.error().contains("--body-timeout"), "{what}: {}", answer.error());
            refused += 1.0;
        }
    }
    let message = framed(false, &echo(4).encode_to_vec());
    for (what, body) in
        [("nothing", stuck(vec![])), ("half a message", stuck(message[..20].into())), ("no end", stuck(message))]
    {
        let (status, ..) = call(&server, MODEL_INFER, &[], body).await;
        assert_eq!(status.code(), Code::DeadlineExceeded, "{what}: {status}");
        assert!(status.message().contains("--body-timeout"), "{what}: {status}");
        refused += 1.0;
    }
    assert_eq!(metric(&server, "onnxd_unrouted_requests_total", &["deadline_exceeded"]).await, refused);
    assert_well(&server).await;
}

/// Numbers whose answer fits in no socket's buffers.
const MANY: usize = 8 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn unread_answers_time_out() {
    // The others would end a client that has to wait for the CPU while it sends.
    let (_repository, server) = start(&["--write-timeout", "1s"]);
    let (body, [(name, length)]) = echo_binary(MANY);
    // Over HTTP/1.1 the client reads nothing at all.
    let head =
        format!("POST {INFER} HTTP/1.1\r\nHost: x\r\n{name}: {length}\r\nContent-Length: {}\r\n\r\n", body.len());
    let deaf = connect(server.http, &[head.as_bytes(), &body].concat());
    eventually("the connection is closed", async || closed(&server, "unread").await == 1.0).await;
    drop(deaf);

    // Over HTTP/2 it may read, and grant nothing.
    let stream = tokio::net::TcpStream::connect(server.http).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(0);
    let (client, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request =
        |path: &str| Request::post(format!("http://{}{path}", server.http)).header(name, &length).body(()).unwrap();
    let mut client = client.ready().await.unwrap();
    let (response, mut sending) = client.send_request(request(INFER), false).unwrap();
    sending.send_data(Bytes::from(body), true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    // Others go on meanwhile, on the same connection too: that is no excuse.
    let busy = tokio::spawn(async move {
        loop {
            let request = Request::get("http://x/v2/health/live").body(()).unwrap();
            let Ok((other, _)) = client.send_request(request, true) else { return };
            if other.await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            match client.ready().await {
                Ok(ready) => client = ready,
                Err(_) => return,
            }
        }
    });
    let ended = tokio::time::timeout(WAIT_TIMEOUT, connection).await.expect("the connection ends").unwrap();
    assert!(ended.is_err() || busy.await.is_ok());
    assert_eq!(closed(&server, "unread").await, 2.0);
    drop(response);

    eventually("nothing is held any more", async || metric(&server, "onnxd_request_memory_bytes", &[]).await == 0.0)
        .await;
    assert_well(&server).await;
}
