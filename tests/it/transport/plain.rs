//! Plain requests over HTTP/1.1 are answered on a short way, and no client sees a difference.

use std::{io::Write, net::TcpStream};

use super::{INFER, assert_well, echo_binary, echo_json, start};
use crate::support::{
    client::metric,
    h1::{Connection, Reply},
    server::{Server, WAIT_TIMEOUT, eventually},
};

const COUNT: usize = 4;

/// A request as it goes over the wire.
fn request(headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {INFER} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// One that is plain, in JSON.
fn plain() -> Vec<u8> {
    request("", &echo_json(COUNT))
}

/// The same with something that is not.
fn odd() -> Vec<u8> {
    request("TE: trailers\r\n", &echo_json(COUNT))
}

fn chunked() -> Vec<u8> {
    let body = echo_json(COUNT);
    let head = format!("POST {INFER} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len());
    [head.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat()
}

const GET: &[u8] = b"GET /v2/models/echo/ready HTTP/1.1\r\nHost: x\r\n\r\n";

fn assert_echo(reply: &Reply) {
    let body = String::from_utf8_lossy(&reply.body);
    assert!(reply.status == 200 && body.contains("\"data\":[0.0,0.0,0.0,0.0]"), "{} {body}", reply.status);
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_requests_may_come_between_plain_ones() {
    let (_repository, server) = start(&[]);
    for between in [odd(), chunked(), GET.to_vec(), [b"\r\n", GET].concat()] {
        let mut connection = Connection::open(server.http).unwrap();
        let requests = [plain(), between, plain(), odd(), plain()];
        for request in &requests {
            connection.send(request).unwrap();
            assert_eq!(connection.reply().unwrap().status, 200);
        }
        // The same without waiting for answers: they come in order.
        connection.send(&requests.concat()).unwrap();
        for at in 0..requests.len() {
            let reply = connection.reply().unwrap();
            if at != 1 {
                assert_echo(&reply);
            }
        }
    }
    let mut connection = Connection::open(server.http).unwrap();
    connection.send(&plain().repeat(200)).unwrap();
    (0..200).for_each(|_| assert_echo(&connection.reply().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_come_in_any_pieces() {
    let (_repository, server) = start(&[]);
    let pieces = |requests: &[u8], at: usize| {
        let stream = TcpStream::connect(server.http).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut sending = stream.try_clone().unwrap();
        requests.chunks(at).for_each(|piece| sending.write_all(piece).unwrap());
        let mut connection = Connection::over(stream);
        (0..2).for_each(|_| assert_echo(&connection.reply().unwrap()));
    };
    for requests in [plain().repeat(2), [plain(), odd()].concat()] {
        (1..requests.len()).for_each(|at| pieces(&requests, at));
    }
}

/// Headers and body of an answer, but for the date, in any order.
fn reported(server: &Server, request: &[u8]) -> (Vec<String>, String) {
    let mut stream = TcpStream::connect(server.http).unwrap();
    stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    // A request that closes is not plain.
    let last = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(&[request, last].concat()).unwrap();
    let mut answers = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut answers).unwrap();
    let answers = String::from_utf8_lossy(&answers).into_owned();
    let (head, rest) = answers.split_once("\r\n\r\n").unwrap();
    let (body, _) = rest.rsplit_once("HTTP/1.1 200 OK").unwrap();
    let mut head: Vec<_> = head.split("\r\n").filter(|line| !line.starts_with("date: ")).map(String::from).collect();
    assert!(answers.contains("\r\ndate: "), "{answers}");
    head[1..].sort();
    (head, body.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn fast_path_and_hyper_answer_alike() {
    let (_repository, server) = start(&[]);
    let (binary, [(name, length)]) = echo_binary(COUNT);
    let (large, [(_, large_length)]) = echo_binary(10_000);
    let mut cases = vec![
        (String::new(), echo_json(COUNT)),
        (format!("{name}: {length}\r\n"), binary.clone()),
        (format!("{}: {length}\r\nAccept-Encoding: gzip, deflate\r\n", name.to_uppercase()), binary.clone()),
        (format!("{name}: {large_length}\r\nAccept-Encoding: gzip\r\n"), large.clone()),
        (format!("{name}: {large_length}\r\nAccept-Encoding: identity\r\n"), large),
        (String::new(), Vec::new()),
        (String::new(), b"{".to_vec()),
        (String::new(), b"{\"inputs\":[]}".to_vec()),
    ];
    for wrong in ["-1", "+1", "", "9999", "1, 1", "1\r\nInference-Header-Content-Length: 2"] {
        cases.push((format!("{name}: {wrong}\r\n"), binary.clone()));
    }
    for (headers, body) in cases {
        let short = reported(&server, &request(&headers, &body));
        let long = reported(&server, &request(&format!("TE: trailers\r\n{headers}"), &body));
        assert_eq!(short, long, "{headers}");
    }
    for path in ["/v2", "/v2/models/echo", "/v2/models/none", "/v2/models/echo/ready", "/nothing?at=all", INFER] {
        let request = |headers: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").into_bytes();
        assert_eq!(reported(&server, &request("")), reported(&server, &request("TE: trailers\r\n")), "{path}");
    }
    for path in ["/v2/models/none/infer", "/v2/models/echo/versions/9/infer", "/v2/models/echo/versions/x/infer"] {
        let request = |headers: &str| {
            format!("POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 2\r\n\r\n{{}}").into_bytes()
        };
        assert_eq!(reported(&server, &request("")), reported(&server, &request("TE: trailers\r\n")), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_after_a_plain_request() {
    let limits = ["--max-header-bytes", "8KiB", "--max-uri-bytes", "1KiB", "--max-headers", "20"];
    let (_repository, server) = start(&limits);
    let body = echo_json(COUNT);
    let long = format!("POST {INFER}?{} HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "a".repeat(1024)).into_bytes();
    let long_model = format!("GET /v2/models/{} HTTP/1.1\r\n\r\n", "a".repeat(1024)).into_bytes();
    for (what, request, status) in [
        ("large headers", request(&format!("X-Large: {}\r\n", "a".repeat(8192)), &body), 431),
        ("many headers", request(&"X-Many: 1\r\n".repeat(20), &body), 431),
        ("a long query", long, 414),
        ("a long path", long_model, 414),
        ("two lengths", request("Content-Length: 3\r\n", &body), 400),
        ("a length and chunks", request("Transfer-Encoding: gzip\r\n", &body), 400),
        ("no protocol", b"what is this\r\n\r\n".to_vec(), 400),
        ("another version", b"GET /v2 HTTP/7.1\r\n\r\n".to_vec(), 400),
    ] {
        let mut connection = Connection::open(server.http).unwrap();
        connection.send(&[plain(), request].concat()).unwrap();
        assert_echo(&connection.reply().unwrap());
        assert_eq!(connection.reply().unwrap().status, status, "{what}");
    }
    assert_well(&server).await;
}

/// Whoever looks at the connection's requests took them for HTTP/1.1.
#[tokio::test(flavor = "multi_thread")]
async fn preface_of_http2_may_only_begin_a_connection() {
    let (_repository, server) = start(&[]);
    for address in [server.http, server.grpc] {
        for first in [plain(), odd(), GET.to_vec()] {
            for preface in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI * HTTP/2.0\r\n\r\n"] {
                let mut connection = Connection::open(address).unwrap();
                connection.send(&first).unwrap();
                assert!(connection.reply().is_ok());
                connection.send(preface.as_bytes()).unwrap();
                let reply = connection.reply().unwrap();
                assert_eq!((reply.status, reply.closes), (400, true));
                assert!(connection.reply().is_err());
            }
        }
    }
    assert_well(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_bodies_and_readers_time_out() {
    let timeouts = ["--body-timeout", "1s", "--write-timeout", "1s"];
    let (_repository, server) = start(&timeouts);
    let whole = plain();
    for missing in [1, echo_json(COUNT).len()] {
        let mut connection = Connection::open(server.http).unwrap();
        connection.send(&[&whole[..], &whole[..whole.len() - missing]].concat()).unwrap();
        assert_echo(&connection.reply().unwrap());
        let late = connection.reply().unwrap();
        assert!(late.status == 408 && String::from_utf8_lossy(&late.body).contains("--body-timeout"));
    }
    // One that asks, and asks, and never reads.
    let (body, [(name, length)]) = echo_binary(15_000);
    let request = request(&format!("{name}: {length}\r\n"), &body);
    let mut deaf = TcpStream::connect(server.http).unwrap();
    let asking = std::thread::spawn(move || while deaf.write_all(&request).is_ok() {});
    let closed = async || metric(&server, "onnxd_connections_closed_total", &["unread"]).await;
    eventually("the connection is closed", async || closed().await == 1.0).await;
    asking.join().unwrap();
    eventually("nothing is held", async || metric(&server, "onnxd_request_memory_bytes", &[]).await == 0.0).await;
    assert_well(&server).await;
}

/// True if the fast path answered a request: it writes the length of the body first, and hyper behind all other headers.
fn is_on_fast_path(server: &Server, request: &[u8]) -> bool {
    let mut stream = TcpStream::connect(server.http).unwrap();
    stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    stream.write_all(request).unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stream)).map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(request));
    lines.next().unwrap().starts_with("content-length: ")
}

#[tokio::test(flavor = "multi_thread")]
async fn fast_path_takes_the_headers_that_it_knows() {
    let (_repository, server) = start(&[]);
    let body = echo_json(COUNT);
    for headers in [
        "",
        "User-Agent: curl/8.0\r\nAccept: */*\r\nContent-Type: application/json\r\n",
        "Accept-Encoding: gzip, deflate, br\r\nConnection: keep-alive\r\naccept: application/json\r\n",
        "accept-language: *\r\nsec-fetch-mode: cors\r\ncontent-type: text/plain;charset=UTF-8\r\n",
        "X-Request-Id: 1\r\nonnxd-server-timing: 1\r\nonnxd-priority: 1\r\nonnxd-routing-key: k\r\n",
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\ntracestate: a=b\r\n",
    ] {
        assert!(is_on_fast_path(&server, &request(headers, &body)), "{headers}");
    }
    let (binary, [(name, length)]) = echo_binary(COUNT);
    assert!(is_on_fast_path(&server, &request(&format!("{name}: {length}\r\n"), &binary)));
    assert!(is_on_fast_path(&server, GET));
}

#[tokio::test(flavor = "multi_thread")]
async fn fast_path_leaves_every_other_header_to_the_ordinary_way() {
    const NAMES: [&str; 32] = [
        "authorization",
        "Authorization",
        "proxy-authorization",
        "cookie",
        "origin",
        "referer",
        "x-api-key",
        "x-user-id",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-real-ip",
        "forwarded",
        "via",
        "range",
        "if-match",
        "if-none-match",
        "cache-control",
        "pragma",
        "date",
        "from",
        "prefer",
        "max-forwards",
        "idempotency-key",
        "baggage",
        "b3",
        "x-b3-traceid",
        "x-envoy-expected-rq-timeout-ms",
        "x-amzn-sagemaker-custom-attributes",
        "grpc-timeout",
        "te",
        "user-agents",
        "onnxd-anything",
    ];
    let (_repository, server) = start(&[]);
    let body = echo_json(COUNT);
    for name in NAMES {
        assert!(!is_on_fast_path(&server, &request(&format!("{name}: 1\r\n"), &body)), "{name}");
        let get = format!("GET /v2/models/echo/ready HTTP/1.1\r\nHost: x\r\n{name}: 1\r\n\r\n");
        assert!(!is_on_fast_path(&server, get.as_bytes()), "{name}");
    }
    for unusual in ["Accept: text/html", "Content-Type: application/grpc", "Connection: keep-alive, te"] {
        assert!(!is_on_fast_path(&server, &request(&format!("{unusual}\r\n"), &body)), "{unusual}");
    }
}
