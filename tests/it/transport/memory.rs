//! Memory is bounded, whatever clients send and don't read.

use bytes::Bytes;
use http::Version;
use prost::Message;
use serde_json::json;
use std::{
    io::Write,
    net::{Shutdown, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};
use tonic::Code;

use super::{ENCODINGS, INFER, ask, assert_well, echo, echo_binary, framed, infer_framed, pack, start};
use crate::support::{
    client::{infer, inference, metric, post, post_with},
    load::{NO_TIME_LIMITS, occupy, pending},
    server::{Server, eventually},
};

async fn held(server: &Server) -> f64 {
    metric(server, "onnxd_request_memory_bytes", &[]).await
}

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn full_budget_rejects_at_once_and_recovers() {
    let (_repository, server) = start(&["--request-memory", "8MiB"]);
    assert_eq!(metric(&server, "onnxd_request_memory_limit_bytes", &[]).await, (8 * MIB) as f64);
    // Bodies that began and stay where they are: each has a MiB.
    let holding: Vec<_> = (1..=7)
        .map(|_| {
            let mut stream = TcpStream::connect(server.http).unwrap();
            let head = format!(
                "POST {INFER} HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: 10\r\nContent-Length: {}\r\n\r\n",
                100 * MIB
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&vec![b' '; MIB]).unwrap();
            stream
        })
        .collect();
    eventually("they are counted", async || held(&server).await == (7 * MIB) as f64).await;
    // A request that fits is served, one that does not is refused.
    assert_well(&server).await;
    let count = MIB / 2;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let (body, headers) = echo_binary(count);
        let answer = ask(server.http, version, INFER, &headers, body).await;
        assert_eq!(answer.status, 429, "{answer:?}");
        assert_eq!(answer.headers["retry-after"], "1");
        assert!(answer.error().contains("of 8388608 bytes (--request-memory)"), "{}", answer.error());
    }
    let message = echo(count).encode_to_vec();
    let mut calls = vec![(vec![], framed(false, &message))];
    for encoding in ENCODINGS {
        calls.push((vec![("grpc-encoding", encoding.into())], framed(true, &pack(encoding, &message))));
    }
    for (headers, body) in calls {
        let (status, _) = infer_framed(&server, &headers, body).await;
        assert_eq!(status.code(), Code::ResourceExhausted, "{headers:?}: {status}");
        assert!(status.message().contains("--request-memory"), "{status}");
    }
    assert_eq!(metric(&server, "onnxd_unrouted_requests_total", &["resource_exhausted"]).await, 6.0);
    assert_eq!(metric(&server, "onnxd_request_memory_refused_total", &[]).await, 6.0);
    assert_eq!(held(&server).await, (7 * MIB) as f64, "what was refused holds nothing");
    drop(holding);
    eventually("it is given back", async || held(&server).await == 0.0).await;
    let (status, _) = infer_framed(&server, &[], framed(false, &message)).await;
    assert_eq!(status.code(), Code::Ok, "{status}");
    eventually("answers too", async || held(&server).await == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queued_requests_count_after_their_client_leaves() {
    let (_repository, server) = start(&NO_TIME_LIMITS);
    // As JSON it is decoded into memory of its own.
    let numbers = vec![0; 50_000];
    let body = serde_json::json!({ "inputs": [{ "name": "iterations", "datatype": "INT64", "shape": [50_000, 1],
        "data": numbers }] });
    let (body, tensor) = (body.to_string(), 50_000.0 * 8.0);
    let busy = occupy(&server).await;
    let mut stream = TcpStream::connect(server.http).unwrap();
    write!(stream, "POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .unwrap();
    let client = inference(&server).await;
    let data = vec![0; 50_000 * 8];
    let request = crate::support::client::raw_request("slow", "iterations", "INT64", &[50_000, 1], data);
    let message = request.encoded_len() as f64;
    let leaving = tokio::spawn(async move { infer(&client, request).await });
    pending(&server, 3.0).await;
    assert!(held(&server).await >= tensor + message);
    leaving.abort();
    drop(stream);
    pending(&server, 1.0).await;
    assert!(held(&server).await >= tensor + tensor, "they lie in the queue");
    busy.release().await;
    eventually("they are gone", async || held(&server).await == 0.0).await;
}

/// Twenty clients that do all they can to fill the memory.
#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_within_the_budget_under_hostile_clients() {
    const BUDGET: usize = 64;
    let (_repository, server) = start(&["--request-memory", "64MiB"]);
    // Memory of the process without them, the first run's allocations included.
    assert_well(&server).await;
    let before = server.peak_memory();
    let http = server.http;
    let grpc = server.grpc;
    let (plain, bomb) = (Arc::new(vec![b' '; 200 * MIB]), Arc::new(pack("zstd", &vec![0; 1024 * MIB])));
    let mut attacks: Vec<thread::JoinHandle<()>> = Vec::new();
    for number in 0..10 {
        let body = if number % 2 == 0 { plain.clone() } else { bomb.clone() };
        attacks.push(thread::spawn(move || {
            let mut stream = TcpStream::connect(http).unwrap();
            let encoding = if number % 2 == 0 { "" } else { "Content-Encoding: zstd\r\n" };
            let head = format!(
                "POST {INFER} HTTP/1.1\r\nHost: x\r\n{encoding}Inference-Header-Content-Length: 10\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            // It may be refused in the middle.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            let _ = stream.shutdown(Shutdown::Write);
        }));
    }
    let mut message = framed(false, &vec![0; 16 * MIB]);
    message[1..5].copy_from_slice(&(200 * MIB as u32).to_be_bytes());
    let message = Bytes::from(message);
    let mut streams = Vec::new();
    for number in 0..10 {
        let message = message.clone();
        streams.push(tokio::spawn(async move {
            let stream = tokio::net::TcpStream::connect(grpc).await.unwrap();
            let (client, connection) = h2::client::handshake(stream).await.unwrap();
            let driver = tokio::spawn(connection);
            // Calls that are read, and calls of methods that answer without an end.
            let paths = [super::MODEL_INFER, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"];
            let mut calls = Vec::new();
            let mut client = client;
            for _ in 0..50 {
                let Ok(ready) = client.ready().await else { break };
                client = ready;
                let request = http::Request::post(format!("http://{grpc}{}", paths[number % 2]))
                    .header("content-type", "application/grpc")
                    .body(())
                    .unwrap();
                let Ok((response, mut sending)) = client.send_request(request, false) else { break };
                let _ = sending.send_data(message.clone(), false);
                calls.push((response, sending));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            drop(calls);
            driver.abort();
        }));
    }
    for attack in attacks {
        attack.join().unwrap();
    }
    for stream in streams {
        stream.await.unwrap();
    }
    eventually("all of it is given back", async || held(&server).await == 0.0).await;
    let grown = server.peak_memory() - before;
    // A buffer that grows is there twice for a moment; and there are buffers of connections, and what the allocator leaves
    // between blocks.
    assert!(grown < (2 * BUDGET + 64) * MIB, "the server has grown by {} MiB", grown / MIB);
    assert_well(&server).await;
}

/// Two bytes on the wire are an input, which takes a hundred decoded.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_grow_when_they_are_decoded_are_refused() {
    let (_repository, server) = start(&["--request-memory", "64MiB"]);
    assert_well(&server).await;
    let before = server.peak_memory();
    let empty_inputs = [0x2a, 0].repeat(8 * MIB);
    let (status, _) = infer_framed(&server, &[], framed(false, &empty_inputs)).await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("--request-memory"), "{status}");
    let grown = server.peak_memory() - before;
    assert!(grown < 64 * MIB, "the server has grown by {} MiB", grown / MIB);
    assert_well(&server).await;
}

/// So does JSON: two characters are an input. And a message about a long name is not as long.
#[tokio::test(flavor = "multi_thread")]
async fn json_takes_little_beside_its_tensors() {
    let (_repository, server) = start(&["--request-memory", "64MiB"]);
    assert_well(&server).await;
    let before = server.peak_memory();
    let list = |element: &str| format!("[{element}{}]", format!(",{element}").repeat(2 * MIB));
    let parameters = list("\"p\":0").replace('[', "{").replace(']', "}");
    let claims = "{\"datatype\":\"UINT64\",\"shape\":[99999999],\"data\":[]},".repeat(60_000);
    for (body, says) in [
        (format!("{{\"inputs\":[{claims}{{}}]}}"), "`inputs[0]` of the request for model 'echo' has no `name`"),
        (format!("{{\"inputs\":{}}}", list("{}")), "`inputs`: more than 65536 elements"),
        (format!("{{\"outputs\":{}}}", list("{\"name\":\"\"}")), "`outputs`: more than 65536 elements"),
        (format!("{{\"inputs\":[],\"parameters\":{parameters}}}"), "missing 'x'"),
    ] {
        let headers = [("content-encoding", "gzip".to_owned())];
        let answer = post_with(server.http, INFER, &headers, pack("gzip", body.as_bytes())).await;
        assert_eq!(answer.status, 400, "{says}: {:?}", answer.body);
        assert!(answer.error().contains(says), "{}", answer.error());
    }
    let grown = server.peak_memory() - before;
    assert!(grown < 128 * MIB, "the server has grown by {} MiB", grown / MIB);

    let name = "\u{20ac}".repeat(MIB);
    let body = json!({ "inputs": [{ "name": name, "datatype": "FP32", "shape": [1, 1], "data": [1] }] });
    let answer = post(server.http, INFER, body.to_string()).await;
    assert_eq!(answer.status, 400);
    assert!(answer.error().starts_with("unexpected inference input '\u{20ac}"), "{}", answer.error());
    assert!(answer.body.len() < 3000, "{} bytes", answer.body.len());
    assert_well(&server).await;
}
