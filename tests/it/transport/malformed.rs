//! Requests that are no call, or no message, are reported as the client's fault.

use http::{Request, StatusCode};
use prost::Message;
use std::{
    io::{Read, Write},
    net::TcpStream,
};
use tonic::Code;

use super::{INFER, assert_well, call, echo, framed, infer_framed, pack, start};
use crate::support::{
    client::{metric, send},
    h1::Connection,
};

#[tokio::test(flavor = "multi_thread")]
async fn malformed_calls_report_the_cause() {
    let (_repository, server) = start(&[]);
    let message = echo(4).encode_to_vec();
    let good = framed(false, &message);
    let zipped = pack("gzip", &message);
    let gzip = || vec![("grpc-encoding", "gzip".to_owned())];
    let cases = [
        ("no body", vec![], vec![], "0 bytes, which is no message"),
        ("half a prefix", vec![], good[..3].to_vec(), "3 bytes, which is no message"),
        ("half a message", vec![], good[..20].to_vec(), "it ends after 15 of the message's"),
        ("two messages", vec![], good.repeat(2), "more than one message"),
        ("a flag that there is not", vec![], [&[7], &good[1..]].concat(), "begins with 7"),
        ("packed in nothing", vec![], framed(true, &zipped), "names no encoding"),
        ("packed in identity", vec![("grpc-encoding", "identity".into())], framed(true, &zipped), "names no encoding"),
        ("not packed at all", gzip(), framed(true, &message), "not valid gzip"),
        ("packed and cut", gzip(), framed(true, &zipped[..zipped.len() - 4]), "not valid gzip: it ends in the middle"),
        ("no protobuf", vec![], framed(false, b"\xff\xff\xff"), "is not what the method takes, ModelInferRequest"),
        ("another message", vec![], framed(false, &[0x08, 0x01]), "is not what the method takes"),
    ];
    let count = cases.len() as f64;
    for (what, headers, body, says) in cases {
        let (status, _) = infer_framed(&server, &headers, body).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
        assert!(status.message().contains(says), "{what}: {status}");
    }
    assert_eq!(metric(&server, "onnxd_unrouted_requests_total", &["invalid_argument"]).await, count);
    // A message with a named encoding need not use it.
    let (status, _) = infer_framed(&server, &gzip(), good).await;
    assert_eq!(status.code(), Code::Ok);
    assert_well(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_methods_are_named() {
    let (_repository, server) = start(&[]);
    for path in ["/inference.GRPCInferenceService/ModelInfers", "/tensorflow.serving.PredictionService/Predict", "/x"] {
        let (status, ..) = call(&server, path, &[], framed(false, &[])).await;
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
        assert!(status.message().contains(path), "{status}");
    }
    let answer =
        send(Request::get(format!("http://{}/v2", server.grpc)).body(axum::body::Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(std::str::from_utf8(&answer.body).unwrap().contains("this port answers gRPC"));
}

/// Lengths that are not those of the bodies.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_lengths_hurt_nobody_else() {
    let (_repository, server) = start(&[]);
    for (what, head, body) in [
        ("no number", "Content-Length: ten", ""),
        ("negative", "Content-Length: -1", ""),
        ("two lengths", "Content-Length: 2\r\nContent-Length: 3", "{}"),
        ("length and chunks that are none", "Content-Length: 2\r\nTransfer-Encoding: chunked", "{}"),
        ("chunks that are none", "Transfer-Encoding: chunked", "here is\r\nno chunk\r\n"),
        ("an encoding of the transfer that there is not", "Transfer-Encoding: gzip", "{}"),
    ] {
        let mut stream = TcpStream::connect(server.http).unwrap();
        // In one piece: what comes behind the answer would have the connection reset.
        let request = format!("POST {INFER} HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // The server may have closed it by then.
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{what}: {answer}");
    }
    // The bytes behind a body are the next request, right or wrong.
    let mut connection = Connection::open(server.http).unwrap();
    connection
        .send(format!("POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}and more\r\n\r\n").as_bytes())
        .unwrap();
    for _ in 0..2 {
        assert_eq!(connection.reply().unwrap().status, 400);
    }
    // A client that goes in the middle is not waited for.
    for _ in 0..3 {
        let mut stream = TcpStream::connect(server.http).unwrap();
        write!(stream, "POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{{").unwrap();
    }
    crate::support::server::eventually("nothing of them is left", async || {
        metric(&server, "onnxd_request_memory_bytes", &[]).await == 0.0
            && metric(&server, "onnxd_connections", &[]).await <= 1.0
    })
    .await;
    assert_well(&server).await;
}
