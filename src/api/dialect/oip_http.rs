//! The Open Inference Protocol over HTTP, with the binary tensor extension.

mod decode;
mod encode;
mod plain;
pub(in crate::api) mod service;

pub use plain::{Asked, Plain};

use axum::{
    Json,
    extract::{self, State},
    http::{
        HeaderName, HeaderValue, Method, Request, StatusCode, Uri,
        header::{ALLOW, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::future::Either;
use hyper::body::Incoming;
use serde_json::json;
use std::{future::ready, net::SocketAddr, sync::Arc};

#[cfg(any(fuzzing, test))]
use {crate::traffic::Selector, axum::http::HeaderMap, bytes::Bytes, std::time::Instant};

use crate::api::{
    Context, Unwritten, shown,
    transport::{
        response_body::{Answer, other},
        wrong_port::nothing_there,
    },
};
use crate::error::{Code, Error, Result};
use service::Target;

/// Length of the JSON in a body with binary tensors behind it. Header names compare without case.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// The request in a body, for the fuzz targets.
#[cfg(any(fuzzing, test))]
pub(crate) fn decode_for_fuzzing(
    json_length: Option<&[u8]>,
    body: Bytes,
) -> crate::error::Result<crate::tensor::Request> {
    let mut headers = HeaderMap::new();
    if let Some(value) = json_length.and_then(|bytes| HeaderValue::from_bytes(bytes).ok()) {
        headers.insert(JSON_LENGTH, value);
    }
    let json_length = decode::json_length("model", &headers, body.len())?;
    decode::request("model".into(), Selector::Any, json_length, body, Instant::now()).map(|decoded| decoded.request)
}

/// What a request for an inference is for, or why that can't be told; `None` where it is for something else.
pub(in crate::api) fn inference(request: &Request<Incoming>) -> Option<Result<Target>> {
    Target::of_inference(request.uri().path())
}

/// Answers a request of a client for an inference.
pub(in crate::api) fn infer(
    context: &Arc<Context>,
    unwritten: &Arc<Unwritten>,
    client: SocketAddr,
    target: Result<Target>,
    request: Request<Incoming>,
) -> impl Future<Output = Answer> + Send + use<> {
    let refused = match target {
        _ if request.method() != Method::POST => wrong_method(request.method(), request.uri(), "POST"),
        Ok(target) => return Either::Left(service::infer(context, unwritten, client, target, request)),
        Err(error) => error.into_response(),
    };
    Either::Right(ready(other(refused)))
}

/// Every other HTTP endpoint.
pub(in crate::api) fn routes(context: Context) -> axum::Router {
    axum::Router::new()
        .route("/v2", get(service::server_metadata))
        .route("/v2/health/live", get(service::live))
        .route("/v2/health/ready", get(service::ready))
        .route("/v2/models/{model}", get(service::model_metadata))
        .route("/v2/models/{model}/versions/{version}", get(service::model_metadata))
        .route("/v2/models/{model}/ready", get(service::model_ready))
        .route("/v2/models/{model}/versions/{version}/ready", get(service::model_ready))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(context)
}

async fn not_found(State(context): State<Context>, request: extract::Request) -> Response {
    nothing_there(&context.ports, "http", &request)
}

async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    wrong_method(&method, &uri, "GET, HEAD")
}

/// The refusal of a method where these are allowed, as a list.
fn wrong_method(method: &Method, uri: &Uri, allowed: &'static str) -> Response {
    let why = format!("Method Not Allowed: {} does not take {method}, expected {allowed}", uri.path());
    let mut response = message(StatusCode::METHOD_NOT_ALLOWED, why);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// An error as every endpoint tells it.
fn message(status: StatusCode, message: String) -> Response {
    (status, Json(json!({ "error": shown(&message) }))).into_response()
}

/// A refusal that is told before a request comes to an endpoint.
pub fn refusal(status: StatusCode, why: String) -> Response {
    message(status, why)
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code().http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = message(status, self.message().into());
        if self.code() == Code::ResourceExhausted {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(self.seconds_to_retry()));
        }
        response
    }
}
