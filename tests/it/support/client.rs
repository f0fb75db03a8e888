//! Clients of both protocols.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use onnxd::api::proto::{
    ModelInferRequest, ModelInferResponse, grpc_inference_service_client::GrpcInferenceServiceClient,
    health::health_client::HealthClient, model_infer_request::InferInputTensor,
};
use serde_json::Value;
use std::net::SocketAddr;
use tonic::{Status, transport::Channel};

/// Addresses of a server, which may be a process or a part of this one.
pub trait Ports {
    fn grpc(&self) -> SocketAddr;
    fn metrics(&self) -> SocketAddr;
    fn admin(&self) -> SocketAddr;
}

/// A connection over gRPC.
pub async fn channel(server: &impl Ports) -> Channel {
    Channel::from_shared(format!("http://{}", server.grpc())).unwrap().connect().await.unwrap()
}

pub async fn inference(server: &impl Ports) -> GrpcInferenceServiceClient<Channel> {
    GrpcInferenceServiceClient::new(channel(server).await).max_decoding_message_size(usize::MAX)
}

pub async fn health(server: &impl Ports) -> HealthClient<Channel> {
    HealthClient::new(channel(server).await)
}

/// An input as a request over gRPC names it; its elements are raw, or come into `contents`.
pub fn input(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: shape.into(),
        ..InferInputTensor::default()
    }
}

/// A request with one raw input.
pub fn raw_request(model: &str, input: &str, datatype: &str, shape: &[i64], data: Vec<u8>) -> ModelInferRequest {
    ModelInferRequest {
        model_name: model.into(),
        inputs: vec![self::input(input, datatype, shape)],
        raw_input_contents: vec![Bytes::from(data)],
        ..ModelInferRequest::default()
    }
}

/// The little-endian bytes of numbers.
pub fn float_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub fn int64_bytes(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The numbers of an answer's first output.
pub fn floats(response: &ModelInferResponse) -> Vec<f32> {
    response.raw_output_contents[0].as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

pub fn int64s(response: &ModelInferResponse) -> Vec<i64> {
    response.raw_output_contents[0].as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
}

pub async fn infer(
    client: &GrpcInferenceServiceClient<Channel>,
    request: ModelInferRequest,
) -> Result<ModelInferResponse, Status> {
    client.clone().model_infer(request).await.map(tonic::Response::into_inner)
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// The message of an error.
    pub fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_else(|| panic!("no error: {:?}", self.body)).into()
    }

    /// The JSON of a binary answer, and the bytes behind it.
    pub fn binary(&self) -> (Value, Bytes) {
        let length: usize = self.headers["inference-header-content-length"].to_str().unwrap().parse().unwrap();
        let json = serde_json::from_slice(&self.body[..length]).unwrap();
        (json, self.body.slice(length..))
    }
}

pub async fn send(request: Request<Body>) -> Answer {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(request).await.unwrap();
    let (head, body) = response.into_parts();
    Answer { status: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
}

pub async fn get(address: SocketAddr, path: &str) -> Answer {
    send(Request::get(format!("http://{address}{path}")).body(Body::empty()).unwrap()).await
}

pub async fn post(address: SocketAddr, path: &str, body: impl Into<Body>) -> Answer {
    send(Request::post(format!("http://{address}{path}")).body(body.into()).unwrap()).await
}

/// Why a model's versions are not ready, as the admin API has it.
pub async fn reasons(server: &impl Ports, model: &str) -> String {
    let path: String = model.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let status = get(server.admin(), &format!("/admin/v1/models/{path}")).await.json();
    let versions = status["versions"].as_array().into_iter().flatten();
    let versions = versions.map(|version| {
        let number = version["version"].to_string();
        format!("version {}: {}", number.trim_matches('"'), version["problem"])
    });
    let reasons: Vec<_> = [status["problem"].to_string()].into_iter().chain(versions).collect();
    reasons.join("; ").replace("\\\"", "\"")
}

/// A body of JSON with binary tensors behind it, and the header that gives their beginning.
pub fn with_binary(json: &Value, binary: &[u8]) -> (Vec<u8>, [(&'static str, String); 1]) {
    let mut body = json.to_string().into_bytes();
    let header = ("inference-header-content-length", body.len().to_string());
    body.extend_from_slice(binary);
    (body, [header])
}

/// Posts a body with headers.
pub async fn post_with(address: SocketAddr, path: &str, headers: &[(&str, String)], body: impl Into<Body>) -> Answer {
    let mut request = Request::post(format!("http://{address}{path}"));
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    send(request.body(body.into()).unwrap()).await
}

/// The value of a series in `/metrics`: the sum over those whose line begins with the name and holds all labels.
pub async fn metric(server: &impl Ports, name: &str, labels: &[&str]) -> f64 {
    let text = get(server.metrics(), "/metrics").await.body;
    let text = std::str::from_utf8(&text).unwrap().to_owned();
    let lines = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    let fitting = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
    fitting.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}
