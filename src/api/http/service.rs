use axum::{
    Json,
    body::{Body, Bytes},
    extract::{FromRequestParts, Path, Request, State},
    http::{HeaderValue, StatusCode, Version, header, request::Parts},
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Instant;

use super::{decode, encode};
use crate::{
    api::{
        Context, EXTENSIONS, PLATFORM, SERVER_NAME, SERVER_VERSION,
        answer::outgoing,
        body::{Pieces, count_copies},
        budget::Share,
        compression::{Encoding, KNOWN, WORTH_IT, compress},
        limits::{Kind, Limit, Refusal},
        parse_version, properties,
    },
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
    let body = match receive(&context, &head, body).await {
        Ok(body) => body,
        Err(refusal) => {
            context.router.undecoded(&refusal.error);
            return refused(refusal);
        }
    };
    answer(&context, target, &head, body).await.unwrap_or_else(Error::into_response)
}

/// The body, unpacked.
async fn receive(context: &Context, head: &Parts, body: Body) -> Result<Bytes, Refusal> {
    let limits = &context.limits;
    let encoding = Encoding::named(&head.headers, header::CONTENT_ENCODING);
    let encoding = encoding.map_err(|why| Refusal::new(Kind::UnknownEncoding, why))?;
    let whole = Limit { bytes: limits.http_body, what: "the request body", setting: "--max-http-body" };
    let json = Limit { bytes: limits.http_json, what: "the JSON of the request", setting: "--max-http-json" };
    // Without the header all of it is JSON. One that is no number is told of when it is decoded.
    let limit = match decode::told_length(&head.headers) {
        None if json.bytes < whole.bytes => json,
        Some(Some(length)) if length > json.bytes => return Err(json.exceeded(&format!("of {length} bytes"))),
        _ => whole,
    };
    let collected = Pieces::new(body, limits).collect(limit, encoding).await;
    collected.map_err(|(refusal, rest)| {
        // A client that is still sending reads no answer before it is done, and a connection that closes under it takes the
        // answer along. One that asks first has not begun, and would be told to.
        if head.version <= Version::HTTP_11 && !head.headers.contains_key(header::EXPECT) {
            tokio::spawn(rest.discard());
        }
        refusal
    })
}

/// What is refused says what would not be.
fn refused(refusal: Refusal) -> Response {
    let status = StatusCode::from_u16(refusal.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = refusal.error.into_response();
    // 429 means that it may be tried again, and the error says so; 413 does not.
    if status != StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().remove(header::RETRY_AFTER);
    }
    if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static(KNOWN));
    }
    *response.status_mut() = status;
    response
}

/// One inference: decode, call, encode.
async fn answer(context: &Context, target: Target, head: &Parts, body: Bytes) -> Result<Response> {
    let decoded = target.version().and_then(|version| {
        let counted = [body.as_ptr_range()];
        let mut decoded = decode::request(target.model, version, &head.headers, body, Instant::now())?;
        let copies = count_copies(&mut decoded.request.inputs, &counted, &context.limits);
        copies.map(|()| decoded).map_err(|refusal| refusal.error)
    });
    let decode::Decoded { request, id, binary } = decoded.inspect_err(|error| context.router.undecoded(error))?;
    let answer = context.router.infer(request).await?;
    // Until they have become a body that is counted.
    let mut outputs = Share::new(&context.limits.budget);
    outputs.add(answer.output.tensors.iter().map(|output| output.tensor.data().len()).sum());
    let response = encode::response(&answer, &id, &binary);
    drop(answer);
    let response = on_its_way(context, head, response).await;
    drop(outputs);
    Ok(response)
}

/// The answer, packed where the client wants it and it pays, and counted.
async fn on_its_way(context: &Context, request: &Parts, response: Response) -> Response {
    let (mut head, mut body) = response.into_parts();
    // It is there as a whole, in one piece.
    let mut body = match body.frame().await {
        Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        _ => Bytes::new(),
    };
    if body.len() >= WORTH_IT
        && let Some(encoding) = Encoding::accepted(&request.headers, header::ACCEPT_ENCODING)
        && let Some(packed) = compress(encoding, &body).await
    {
        body = packed.into();
        head.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
    }
    let body = outgoing(body, &request.extensions, &context.limits);
    Response::from_parts(head, Body::new(body))
}
