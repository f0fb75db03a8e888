//! Requests that are too large are refused with that reason, and nothing else suffers.

use axum::body::Body;
use futures_util::stream;
use http::{StatusCode, Version};
use prost::Message;
use tonic::Code;

use super::{
    ENCODINGS, INFER, ask, assert_well, call, echo, echo_binary, echo_json, framed, infer_framed, pack, start,
};
use crate::support::client::metric;

const LIMITS: [&str; 12] = [
    "--max-http-body",
    "100KiB",
    "--max-http-json",
    "10KiB",
    "--max-grpc-message",
    "100KiB",
    "--max-header-bytes",
    "8KiB",
    "--max-uri-bytes",
    "1KiB",
    "--max-headers",
    "20",
];

/// Numbers of which a request takes more than 100 KiB.
const TOO_MANY: usize = 30_000;

/// A body that does not give its length.
fn chunked(body: Vec<u8>) -> Body {
    let pieces: Vec<_> = body.chunks(10_000).map(<[u8]>::to_vec).collect();
    Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>)))
}

#[tokio::test(flavor = "multi_thread")]
async fn http_requests_have_limits() {
    let (_repository, server) = start(&LIMITS);
    let large = 16 << 20;
    let mut refused = 0.0;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let (body, json_length) = echo_binary(TOO_MANY);
        let mut cases = vec![
            ("a length", Body::from(body.clone()), json_length.to_vec(), "--max-http-body"),
            ("chunks", chunked(body), json_length.to_vec(), "--max-http-body"),
            ("JSON", Body::from(echo_json(5000)), vec![], "--max-http-json"),
            ("JSON in chunks", chunked(echo_json(5000)), vec![], "--max-http-json"),
            (
                "JSON before binary data",
                Body::from("{}"),
                vec![("inference-header-content-length", "10241".into())],
                "--max-http-json",
            ),
        ];
        for encoding in ENCODINGS {
            let bomb = Body::from(pack(encoding, &vec![0; large]));
            let headers = [json_length[0].clone(), ("content-encoding", encoding.into())];
            cases.push(("a bomb", bomb, headers.into(), "--max-http-body"));
        }
        for (what, body, headers, says) in cases {
            let answer = ask(server.http, version, INFER, &headers, body).await;
            assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{what}: {answer:?}");
            assert!(answer.error().contains(says), "{what}: {}", answer.error());
            assert!(!answer.headers.contains_key("retry-after"), "{what}: it won't fit later either");
            refused += 1.0;
        }
        let long = format!("{INFER}?{}", "a".repeat(1024));
        let answer = ask(server.http, version, &long, &[], echo_json(4)).await;
        assert_eq!(answer.status, StatusCode::URI_TOO_LONG);
        assert!(answer.error().contains("--max-uri-bytes"));
        let headers = [("x-large", "a".repeat(8192))];
        let answer = ask(server.http, version, INFER, &headers, echo_json(4)).await;
        assert_eq!(answer.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "{version:?}");
    }
    let headers: Vec<_> = (0..20).map(|_| ("x-many", String::new())).collect();
    let answer = ask(server.http, Version::HTTP_11, INFER, &headers, echo_json(4)).await;
    assert_eq!(answer.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert_eq!(metric(&server, "onnxd_unrouted_requests_total", &["resource_exhausted"]).await, refused);
    assert_well(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_messages_have_limits() {
    let (_repository, server) = start(&LIMITS);
    let large = 16 << 20;
    let message = echo(TOO_MANY).encode_to_vec();
    let mut cases = vec![
        ("a length", vec![], framed(false, &message)),
        // Without the message.
        ("the length alone", vec![], framed(false, &message)[..5].to_vec()),
        ("the largest length", vec![], vec![0, 255, 255, 255, 255]),
    ];
    for encoding in ENCODINGS {
        let bomb = framed(true, &pack(encoding, &vec![0; large]));
        cases.push(("a bomb", vec![("grpc-encoding", encoding.into())], bomb));
    }
    let count = cases.len() as f64;
    for (what, headers, body) in cases {
        let (status, _) = infer_framed(&server, &headers, body).await;
        assert_eq!(status.code(), Code::ResourceExhausted, "{what}: {status}");
        let says = "limit of 102400 bytes (--max-grpc-message)";
        assert!(status.message().contains(says), "{what}: {status}");
    }
    assert_eq!(metric(&server, "onnxd_unrouted_requests_total", &["resource_exhausted"]).await, count);
    // The methods that take a few bytes take few, packed or not.
    let check = "/grpc.health.v1.Health/Check";
    let (status, ..) = call(&server, check, &[], framed(false, &vec![0; 70 << 10])).await;
    assert_ne!(status.code(), Code::Ok);
    for encoding in ENCODINGS {
        let bomb = framed(true, &pack(encoding, &vec![0; 1 << 20]));
        let (status, ..) = call(&server, check, &[("grpc-encoding", encoding.into())], bomb).await;
        assert_eq!(status.code(), Code::ResourceExhausted, "{encoding}: {status}");
    }
    assert_well(&server).await;
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    let folder = tempfile::TempDir::new().unwrap();
    for (option, value, says) in [
        ("--max-http-body", "0", "'--max-http-body <SIZE>': it must be at least 1"),
        ("--request-memory", "lots", "'lots' is not a size"),
        ("--idle-timeout", "0s", "'--idle-timeout <DURATION>': it must be longer than 0s"),
        ("--max-streams", "0", "--max-streams"),
    ] {
        let output =
            crate::support::server::onnxd().arg("serve").arg(folder.path()).args([option, value]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(says), "{option} {value}: {said}");
    }
}
