use axum::{
    Json,
    body::Bytes,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Instant;

use super::{decode, encode, message};
use crate::{
    api::{Context, EXTENSIONS, MAX_REQUEST_BYTES, PLATFORM, SERVER_NAME, SERVER_VERSION, parse_version, properties},
    error::{Error, Result},
    tensor::{Dimension, TensorSpec},
};

/// What a path says of the model.
#[derive(Deserialize)]
pub(super) struct Target {
    model: String,
    #[serde(default)]
    version: String,
}

impl Target {
    fn version(&self) -> Result<Option<u64>> {
        parse_version(&self.model, &self.version)
    }
}

pub(super) async fn live() -> Response {
    Json(json!({ "live": true })).into_response()
}

pub(super) async fn ready(State(context): State<Context>) -> Response {
    readiness(json!({ "ready": context.is_ready() }), context.is_ready())
}

pub(super) async fn model_ready(State(context): State<Context>, Path(target): Path<Target>) -> Result<Response> {
    let ready = context.model_ready(&target.model, target.version()?)?;
    Ok(readiness(json!({ "name": target.model, "ready": ready }), ready))
}

fn readiness(body: Value, ready: bool) -> Response {
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(body)).into_response()
}

pub(super) async fn server_metadata() -> Response {
    Json(json!({ "name": SERVER_NAME, "version": SERVER_VERSION, "extensions": EXTENSIONS })).into_response()
}

pub(super) async fn model_metadata(State(context): State<Context>, Path(target): Path<Target>) -> Result<Response> {
    let (table, version) = context.version(&target.model, target.version()?)?;
    let versions = table
        .models
        .get(&target.model)
        .into_iter()
        .flat_map(|model| model.ready());
    let versions: Vec<String> = versions.map(|ready| ready.version.to_string()).collect();
    let properties: serde_json::Map<_, _> = properties(&version)
        .into_iter()
        .map(|(key, value)| (key.into(), value.into()))
        .collect();
    let body = json!({
        "name": target.model,
        "versions": versions,
        "platform": PLATFORM,
        "inputs": tensors_metadata(&version.signature.inputs),
        "outputs": tensors_metadata(&version.signature.outputs),
        "properties": properties,
    });
    Ok(Json(body).into_response())
}

fn tensors_metadata(specs: &[TensorSpec]) -> Vec<Value> {
    let metadata = |spec: &TensorSpec| {
        let shape: Vec<i64> = spec.shape.iter().map(Dimension::to_wire).collect();
        json!({ "name": *spec.name, "datatype": spec.datatype.name(), "shape": shape })
    };
    specs.iter().map(metadata).collect()
}

pub(super) async fn infer(State(context): State<Context>, Path(target): Path<Target>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    if let Some(response) = refuse_encoding(&head.headers) {
        return response;
    }
    let body = match Limited::new(body, MAX_REQUEST_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            let limit = format!("the request body is larger than the limit of {MAX_REQUEST_BYTES} bytes");
            return message(StatusCode::PAYLOAD_TOO_LARGE, limit);
        }
        Err(error) => {
            return message(
                StatusCode::BAD_REQUEST,
                format!("the request body can't be read: {error}"),
            );
        }
    };
    answer(&context, target, &head.headers, body)
        .await
        .unwrap_or_else(Error::into_response)
}

/// One inference: decode, call, encode.
async fn answer(context: &Context, target: Target, headers: &HeaderMap, body: Bytes) -> Result<Response> {
    let decoded = target
        .version()
        .and_then(|version| decode::request(target.model, version, headers, body, Instant::now()));
    let decode::Decoded { request, id, binary } = decoded.inspect_err(|error| context.router.undecoded(error))?;
    let answer = context.router.infer(request).await?;
    Ok(encode::response(&answer, &id, &binary))
}

/// A body in an encoding is not decoded.
fn refuse_encoding(headers: &HeaderMap) -> Option<Response> {
    let encoding = headers
        .get(header::CONTENT_ENCODING)
        .filter(|encoding| *encoding != "identity")?;
    Some(message(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!("Content-Encoding {encoding:?} is not supported: send identity"),
    ))
}
