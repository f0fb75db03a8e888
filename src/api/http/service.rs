use axum::{
    Json,
    body::{Bytes, HttpBody},
    extract::{FromRequestParts, Path, Request, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
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
    tensor::TensorSpec,
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

/// Like [`Path`], with an error that looks like the others.
impl<S: Send + Sync> FromRequestParts<S> for Target {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let read = Path::from_request_parts(parts, state).await;
        read.map(|Path(target)| target)
            .map_err(|rejection| Error::invalid(format!("{}: {}", parts.uri.path(), rejection.body_text())))
    }
}

pub(super) async fn live() -> Response {
    Json(json!({ "live": true })).into_response()
}

pub(super) async fn ready(State(context): State<Context>) -> Response {
    readiness(json!({ "ready": context.is_ready() }), context.is_ready())
}

pub(super) async fn model_ready(State(context): State<Context>, target: Target) -> Result<Response> {
    let ready = context.model_ready(&target.model, target.version()?)?;
    Ok(readiness(json!({ "name": target.model, "ready": ready }), ready))
}

fn readiness(body: Value, ready: bool) -> Response {
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

pub(super) async fn server_metadata() -> Response {
    Json(json!({ "name": SERVER_NAME, "version": SERVER_VERSION, "extensions": EXTENSIONS })).into_response()
}

pub(super) async fn model_metadata(State(context): State<Context>, target: Target) -> Result<Response> {
    let (table, version) = context.version(&target.model, target.version()?)?;
    let versions = table.models.get(&target.model).into_iter().flat_map(|model| model.ready());
    let versions: Vec<String> = versions.map(|ready| ready.version.to_string()).collect();
    let properties: serde_json::Map<_, _> =
        properties(&version).into_iter().map(|(key, value)| (key, value.into())).collect();
    let body = json!({
        "name": target.model,
        "versions": versions,
        "platform": PLATFORM,
        "inputs": tensors_metadata(version.signature.all_inputs()),
        "outputs": tensors_metadata(version.signature.outputs.iter()),
        "properties": properties,
    });
    Ok(Json(body).into_response())
}

fn tensors_metadata<'a>(specs: impl Iterator<Item = &'a TensorSpec>) -> Vec<Value> {
    let metadata =
        |spec: &TensorSpec| json!({ "name": *spec.name, "datatype": spec.datatype.name(), "shape": spec.wire_shape() });
    specs.map(metadata).collect()
}

pub(super) async fn infer(State(context): State<Context>, target: Target, request: Request) -> Response {
    let (head, body) = request.into_parts();
    if let Some(response) = refuse_encoding(&head.headers) {
        return response;
    }
    let too_large = || {
        let limit = format!("the request body is larger than the limit of {MAX_REQUEST_BYTES} bytes");
        message(StatusCode::PAYLOAD_TOO_LARGE, limit)
    };
    // Where the length is told beforehand, nobody has to wait for what is refused.
    if body.size_hint().lower() > MAX_REQUEST_BYTES as u64 {
        return too_large();
    }
    let body = match Limited::new(body, MAX_REQUEST_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return too_large(),
        Err(error) => {
            return message(StatusCode::BAD_REQUEST, format!("the request body can't be read: {error}"));
        }
    };
    answer(&context, target, &head.headers, body).await.unwrap_or_else(Error::into_response)
}

/// One inference: decode, call, encode.
async fn answer(context: &Context, target: Target, headers: &HeaderMap, body: Bytes) -> Result<Response> {
    let decoded =
        target.version().and_then(|version| decode::request(target.model, version, headers, body, Instant::now()));
    let decode::Decoded { request, id, binary } = decoded.inspect_err(|error| context.router.undecoded(error))?;
    let answer = context.router.infer(request).await?;
    Ok(encode::response(&answer, &id, &binary))
}

/// A body in an encoding is not decoded.
fn refuse_encoding(headers: &HeaderMap) -> Option<Response> {
    let encoding = headers.get(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity")?;
    Some(message(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!("Content-Encoding {encoding:?} is not supported: send identity"),
    ))
}
