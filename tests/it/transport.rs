//! Transport of requests: encodings, limits, timeouts, and memory, over HTTP/1.1, HTTP/2 and gRPC.

mod connections;
mod encodings;
mod floods;
mod half_close;
mod large;
mod limits;
mod malformed;
mod memory;
mod plain;
mod timeouts;

use axum::body::Body;
use bytes::Bytes;
use flate2::{Compression, write};
use http::{HeaderMap, Method, Request, StatusCode, Version};
use http_body_util::BodyExt;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use onnxd::api::proto::ModelInferRequest;
use prost::Message;
use serde_json::json;
use std::{io::Write, net::SocketAddr};
use tempfile::TempDir;
use tonic::Status;

use crate::support::{
    client::{Answer, float_bytes, raw_request, with_binary},
    onnx,
    server::Server,
};

const INFER: &str = "/v2/models/echo/infer";
const MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
const ENCODINGS: [&str; 3] = ["gzip", "deflate", "zstd"];

/// Serves `echo`, which answers what it is asked, and `slow`.
fn start(options: &[&str]) -> (TempDir, Server) {
    let repository = TempDir::new().unwrap();
    onnx::identity(onnx::FLOAT, &["batch", "n"]).save(&repository.path().join("echo/1/model.onnx"));
    onnx::slow().save(&repository.path().join("slow/1/model.onnx"));
    let server = Server::start_with(repository.path(), options);
    (repository, server)
}

/// Numbers that an encoding makes smaller.
fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|number| (number / 16) as f32).collect()
}

/// A request to `echo` over gRPC.
fn echo(count: usize) -> ModelInferRequest {
    raw_request("echo", "x", "FP32", &[1, count as i64], float_bytes(&numbers(count)))
}

/// The same over HTTP, with binary data both ways.
fn echo_binary(count: usize) -> (Vec<u8>, [(&'static str, String); 1]) {
    let data = float_bytes(&numbers(count));
    let input = json!({ "name": "x", "datatype": "FP32", "shape": [1, count],
        "parameters": { "binary_data_size": data.len() } });
    with_binary(&json!({ "inputs": [input], "parameters": { "binary_data_output": true } }), &data)
}

/// The same in JSON both ways.
fn echo_json(count: usize) -> Vec<u8> {
    let input = json!({ "name": "x", "datatype": "FP32", "shape": [1, count], "data": numbers(count) });
    json!({ "inputs": [input] }).to_string().into()
}

fn pack(encoding: &str, data: &[u8]) -> Vec<u8> {
    let level = Compression::fast();
    match encoding {
        "gzip" => {
            let mut packer = write::GzEncoder::new(Vec::new(), level);
            packer.write_all(data).unwrap();
            packer.finish().unwrap()
        }
        "deflate" => {
            let mut packer = write::ZlibEncoder::new(Vec::new(), level);
            packer.write_all(data).unwrap();
            packer.finish().unwrap()
        }
        "zstd" => zstd::encode_all(data, 1).unwrap(),
        other => panic!("{other}"),
    }
}

fn unpack(encoding: &str, data: &[u8]) -> Vec<u8> {
    let mut unpacked = Vec::new();
    match encoding {
        "gzip" => write::GzDecoder::new(&mut unpacked).write_all(data).unwrap(),
        "deflate" => write::ZlibDecoder::new(&mut unpacked).write_all(data).unwrap(),
        "zstd" => unpacked = zstd::decode_all(data).unwrap(),
        other => panic!("{other}"),
    }
    unpacked
}

/// The message of a call as gRPC frames it.
fn framed(packed: bool, message: &[u8]) -> Vec<u8> {
    let mut body = vec![packed.into()];
    body.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend_from_slice(message);
    body
}

/// An answer over HTTP/1.1 or HTTP/2, as it comes.
async fn ask(
    address: SocketAddr,
    version: Version,
    path: &str,
    headers: &[(&str, String)],
    body: impl Into<Body>,
) -> Answer {
    let mut request = Request::builder().method(Method::POST).uri(format!("http://{address}{path}"));
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let client = Client::builder(TokioExecutor::new()).http2_only(version == Version::HTTP_2).build_http();
    let response = client.request(request.body(body.into()).unwrap()).await.unwrap();
    assert_eq!(response.version(), version);
    let (head, body) = response.into_parts();
    Answer { status: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
}

/// End of a call over gRPC: its status, the headers of the response, and the body.
async fn call(
    server: &Server,
    path: &str,
    headers: &[(&str, String)],
    body: impl Into<Body>,
) -> (Status, HeaderMap, Bytes) {
    let mut request = Request::post(format!("http://{}{path}", server.grpc)).header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let response = client.request(request.body(body.into()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    let status = Status::from_header_map(&head.headers).or_else(|| Status::from_header_map(&trailers)).unwrap();
    (status, head.headers, body.to_bytes())
}

/// End of `call` for one message to ModelInfer.
async fn infer_framed(server: &Server, headers: &[(&str, String)], body: Vec<u8>) -> (Status, HeaderMap) {
    let (status, headers, _) = call(server, MODEL_INFER, headers, body).await;
    (status, headers)
}

/// Asserts that the server answers as ever, over every protocol.
async fn assert_well(server: &Server) {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let (body, headers) = echo_binary(4);
        let answer = ask(server.http, version, INFER, &headers, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        assert_eq!(answer.binary().1, float_bytes(&numbers(4)));
    }
    let (status, _) = infer_framed(server, &[], framed(false, &echo(4).encode_to_vec())).await;
    assert_eq!(status.code(), tonic::Code::Ok, "{status}");
}
