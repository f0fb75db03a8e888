//! Encodings both ways.

use axum::body::Body;
use futures_util::stream;
use http::{StatusCode, Version};
use onnxd::api::proto::{ServerLiveRequest, health::HealthCheckRequest};
use tonic::{Code, codec::CompressionEncoding};

use super::{ENCODINGS, INFER, ask, echo, echo_binary, echo_json, framed, infer_framed, numbers, pack, start, unpack};
use crate::support::{
    client::{Answer, channel, float_bytes, floats, health, inference},
    python,
};
use prost::Message;

const COUNT: usize = 50_000;

#[tokio::test(flavor = "multi_thread")]
async fn http_reads_and_writes_every_encoding() {
    let (_repository, server) = start(&[]);
    let expected = float_bytes(&numbers(COUNT));
    for encoding in ENCODINGS {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let (body, [json_length]) = echo_binary(COUNT);
            // The length of the JSON is that of the JSON as it was.
            let accept = ("accept-encoding", format!("br;q=1.0, {encoding};q=0.9, *;q=0.1"));
            let headers = [json_length, ("content-encoding", encoding.into()), accept];
            let packed = pack(encoding, &body);
            assert!(packed.len() < body.len() / 2);
            let answer = ask(server.http, version, INFER, &headers, packed).await;
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            assert_eq!(answer.headers["content-encoding"], encoding);
            assert!(answer.body.len() < expected.len() / 2, "{encoding}");
            let answer = Answer { body: unpack(encoding, &answer.body).into(), ..answer };
            assert_eq!(answer.binary().1, expected, "{encoding} over {version:?}");
        }
        // In pieces of a few bytes, without a length.
        let pieces: Vec<_> = pack(encoding, &echo_json(500)).chunks(7).map(<[u8]>::to_vec).collect();
        let body = Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>)));
        let answer = ask(server.http, Version::HTTP_11, INFER, &[("content-encoding", encoding.into())], body).await;
        assert_eq!(answer.json()["outputs"][0]["data"][499], 31.0, "{encoding}");
        assert!(!answer.headers.contains_key("content-encoding"), "nobody asked for it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_compresses_only_when_it_pays() {
    let (_repository, server) = start(&[]);
    let gzip = ("accept-encoding", "gzip".to_owned());
    let small = ask(server.http, Version::HTTP_11, INFER, std::slice::from_ref(&gzip), echo_json(4)).await;
    assert!(small.status == StatusCode::OK && !small.headers.contains_key("content-encoding"));
    let identity = ("accept-encoding", "gzip;q=0.5, identity".to_owned());
    let unwanted = ask(server.http, Version::HTTP_11, INFER, &[identity], echo_json(5000)).await;
    assert!(unwanted.status == StatusCode::OK && !unwanted.headers.contains_key("content-encoding"));
    // Noise: the products of a congruence.
    let mut noise = 1_u32;
    let data: Vec<u8> = (0..400_000)
        .map(|_| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8
        })
        .collect();
    let json = serde_json::json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 100_000],
        "parameters": { "binary_data_size": 400_000 } }], "parameters": { "binary_data_output": true } });
    let (body, [json_length]) = crate::support::client::with_binary(&json, &data);
    let noisy = ask(server.http, Version::HTTP_11, INFER, &[json_length, gzip], body).await;
    assert!(noisy.status == StatusCode::OK && !noisy.headers.contains_key("content-encoding"));
    assert_eq!(noisy.binary().1, data);
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_reads_every_encoding_and_answers_alike() {
    let (_repository, server) = start(&[]);
    use CompressionEncoding::{Deflate, Gzip, Zstd};
    for (encoding, name) in [(Gzip, "gzip"), (Deflate, "deflate"), (Zstd, "zstd")] {
        let client = inference(&server).await.accept_compressed(encoding);
        let plain = client.clone().model_infer(echo(COUNT)).await.unwrap();
        assert!(plain.metadata().get("grpc-encoding").is_none(), "who accepts {name} has not asked for it");
        let mut client = client.send_compressed(encoding);
        let answer = client.model_infer(echo(COUNT)).await.unwrap();
        assert_eq!(answer.metadata().get("grpc-encoding").unwrap(), name);
        assert_eq!(floats(answer.get_ref()), numbers(COUNT), "{name}");
        let small = client.model_infer(echo(4)).await.unwrap();
        assert!(small.metadata().get("grpc-encoding").is_none(), "it would not pay");
        assert!(client.server_live(ServerLiveRequest {}).await.unwrap().get_ref().live, "{name}");
        // Messages to the other methods may be packed too.
        let mut health = health(&server).await.send_compressed(encoding);
        assert!(health.check(HealthCheckRequest { service: "echo".into() }).await.is_ok(), "{name}");
        // A client that sends packed messages need not read them.
        let mut sends =
            onnxd::api::proto::grpc_inference_service_client::GrpcInferenceServiceClient::new(channel(&server).await)
                .send_compressed(encoding);
        let answer = sends.model_infer(echo(COUNT)).await.unwrap();
        assert!(answer.metadata().get("grpc-encoding").is_none(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_encodings_are_rejected_with_the_known_list() {
    let (_repository, server) = start(&[]);
    for unknown in ["br", "compress", "gzip, gzip"] {
        let headers = [("content-encoding", unknown.to_owned())];
        let answer = ask(server.http, Version::HTTP_11, INFER, &headers, echo_json(4)).await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(answer.headers["accept-encoding"], "gzip, deflate, zstd, identity");
        assert!(answer.error().contains("expected one of gzip, deflate, zstd"), "{}", answer.error());
    }
    let message = framed(true, &echo(4).encode_to_vec());
    let (status, headers) = infer_framed(&server, &[("grpc-encoding", "snappy".into())], message).await;
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("'snappy' is not supported, expected one of gzip, deflate, zstd"), "{status}");
    assert_eq!(headers["grpc-accept-encoding"], "gzip, deflate, zstd, identity");
}

#[test]
fn tritonclient_sends_and_reads_encodings() {
    let (repository, server) = start(&[]);
    let (grpc, http) = (server.grpc.to_string(), server.http.to_string());
    let repository = repository.path().to_str().unwrap();
    python::run("encodings", "encodings.py", &["--grpc", &grpc, "--http", &http, "--repository", repository]);
}
