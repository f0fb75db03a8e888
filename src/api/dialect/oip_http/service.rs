use axum::{
    Json,
    body::Bytes,
    extract::{FromRequestParts, Path, State},
    http::{HeaderMap, HeaderValue, Request, StatusCode, Version, header, request::Parts},
    response::{IntoResponse, Response},
};
use hyper::body::{Body as _, Incoming};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{net::SocketAddr, sync::Arc, time::Instant};

use super::{
    decode::{self, Binary, Decoded},
    encode::{self, Encoded},
};
use crate::{
    api::{
        Context, EXTENSIONS, PLATFORM, SERVER_NAME, SERVER_VERSION, Unwritten,
        dialect::parameters::{PRIORITY, read_priority},
        properties,
        request_log::{Beside, Notes, Protocol},
        shown,
        transport::{
            body::{Pieces, count_copies},
            codec_pool::MAX_INLINE_BYTES,
            compression::{Encoding, KNOWN, WORTH_IT, compress},
            limits::{Kind, Limit, Limits, Refusal},
            memory_budget::Share,
            response_body::{Answer, AnswerBody, other, outgoing},
        },
    },
    error::{Error, Result},
    router::{self, Header, Submitted},
    tensor::TensorSpec,
    traffic::Selector,
};

/// What a path says of the model.
#[derive(Debug, Deserialize)]
pub(in crate::api) struct Target {
    model: String,
    #[serde(default)]
    version: String,
}

impl Target {
    /// The target of a path that is one of an inference.
    pub(in crate::api) fn of_inference(path: &str) -> Option<Result<Self>> {
        let target = path.strip_prefix("/v2/models/")?.strip_suffix("/infer")?;
        let (model, version) = match target.split_once('/') {
            None => (target, ""),
            Some((model, rest)) => (model, rest.strip_prefix("versions/").filter(|version| !version.is_empty())?),
        };
        if model.is_empty() || version.contains('/') {
            return None;
        }
        let decoded = |text| {
            let decoded = percent_decode_str(text).decode_utf8();
            decoded.map(String::from).map_err(|error| Error::invalid(format!("{path}: '{text}' is no UTF-8: {error}")))
        };
        Some(decoded(model).and_then(|model| Ok(Target { model, version: decoded(version)? })))
    }

    /// The model's name.
    pub(super) fn model(&self) -> &str {
        &self.model
    }

    fn selector(&self) -> Result<Selector> {
        Selector::parse(&self.model, &self.version)
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

pub(super) async fn live(State(context): State<Context>) -> Response {
    readiness(json!({ "live": context.is_live() }), context.is_live())
}

pub(super) async fn ready(State(context): State<Context>) -> Response {
    match context.not_ready() {
        None => readiness(json!({ "ready": true }), true),
        Some(why) => readiness(json!({ "ready": false, "error": why }), false),
    }
}

pub(super) async fn model_ready(State(context): State<Context>, target: Target) -> Result<Response> {
    Ok(match context.model_ready(&target.model, &target.selector()?) {
        Ok(ready) => readiness(json!({ "name": target.model, "ready": ready }), ready),
        Err(unknown) => {
            let body = json!({ "name": target.model, "ready": false, "error": shown(unknown.message()) });
            (StatusCode::NOT_FOUND, Json(body)).into_response()
        }
    })
}

fn readiness(body: Value, ready: bool) -> Response {
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

pub(super) async fn server_metadata() -> Response {
    Json(json!({ "name": SERVER_NAME, "version": SERVER_VERSION, "extensions": EXTENSIONS })).into_response()
}

pub(super) async fn model_metadata(State(context): State<Context>, target: Target) -> Result<Response> {
    let (table, version) = context.version(&target.model, &target.selector()?)?;
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

/// One inference: decode, call, encode. What is done between waiting is done in functions, so that what it takes is not part
/// of the future.
pub(super) fn infer(
    context: &Arc<Context>,
    unwritten: &Arc<Unwritten>,
    client: SocketAddr,
    target: Target,
    request: Request<Incoming>,
) -> impl Future<Output = Answer> + Send + use<> {
    let arrived = Instant::now();
    let (head, body) = request.into_parts();
    let (headers, version) = (head.headers, head.version);
    let (context, unwritten) = (context.clone(), unwritten.clone());
    let log = context.access_log.as_ref();
    let beside = Beside::read(&headers);
    let mut notes = Notes::begin(log, Protocol::Http, client, beside, arrived);
    async move {
        let body = match form(&context, &headers) {
            Ok((limit, encoding)) => {
                // A client that is still sending reads no answer before it is done, and a connection that closes under it
                // takes the answer along. One that asks first has not begun, and would be told to.
                let discards = version <= Version::HTTP_11 && !headers.contains_key(header::EXPECT);
                let binary = decode::told_length(&headers).flatten().unwrap_or(0);
                let pieces = Pieces::new(body, &context.limits, arrived).aligning(binary);
                pieces.collect(limit, encoding, discards).await
            }
            Err(refusal) => Err(refusal),
        };
        let body = match body {
            Ok(body) => body,
            Err(refusal) => {
                context.router.undecoded(&refusal.error);
                notes.asks(&target.model, 0);
                notes.failed(&refusal.error);
                return told(other(refused(refusal)), notes);
            }
        };
        notes.asks(&target.model, body.len());
        let json_length = decode::json_length(&target.model, &headers, body.len());
        let decoded = match json_length {
            Ok(json_length) if decode::work(&body, json_length) > MAX_INLINE_BYTES => {
                Box::pin(decoded_aside(&context, target, json_length, body, arrived)).await
            }
            json_length => {
                json_length.and_then(|json_length| decoded(&context.limits, target, json_length, body, arrived))
            }
        };
        let header = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
        let priority = headers.get(PRIORITY).map(HeaderValue::as_bytes);
        let submitted = submitted(&context, decoded, priority, &header, &mut notes);
        let encoding = Encoding::accepted(&headers, header::ACCEPT_ENCODING);
        // They lie in what was read, which is read into again while the answer is waited for.
        drop(headers);
        let answered = match submitted {
            Ok((submitted, id, binary)) => match submitted.answer().await {
                Ok(answer) => {
                    notes.ran(answer.timing);
                    if encode::work(&answer, &binary) > MAX_INLINE_BYTES {
                        Box::pin(encoded_aside(&context, answer, id, binary)).await
                    } else {
                        encode::body(&answer, &id, &binary, &context.limits).map(|encoded| (answer, encoded))
                    }
                }
                Err(error) => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        };
        let answered = match answered {
            Ok((answer, encoded)) => on_its_way(&context, &unwritten, encoding, &answer, encoded).await,
            Err(refusal) => Err(refusal),
        };
        let answer = answered.unwrap_or_else(|refusal| {
            notes.failed(&refusal.error);
            other(refused(refusal))
        });
        told(answer, notes)
    }
}

/// A request in a body with much JSON, decoded by the pool.
async fn decoded_aside(
    context: &Context,
    target: Target,
    json_length: Option<usize>,
    body: Bytes,
    arrived: Instant,
) -> Result<Decoded> {
    let (limits, bytes) = (context.limits.clone(), body.len());
    // Its deadline is in the JSON: it is judged when that is decoded.
    context.codecs.run(bytes, None, move || decoded(&limits, target, json_length, body, arrived)).await?
}

/// A large answer, encoded by the pool.
pub(super) async fn encoded_aside(
    context: &Context,
    answer: router::Answer,
    id: String,
    binary: Binary,
) -> Result<(router::Answer, Encoded), Refusal> {
    let (limits, work) = (context.limits.clone(), encode::work(&answer, &binary));
    let encode = move |is_wanted: &dyn Fn() -> bool| {
        encode::body_while_wanted(&answer, &id, &binary, &limits, is_wanted).map(|encoded| (answer, encoded))
    };
    context.codecs.run_while_wanted(work, None, encode).await?
}

/// The answer with what is told beside it.
fn told(mut answer: Answer, notes: Notes) -> Answer {
    let bytes = answer.body().size_hint().exact().unwrap_or_default();
    if let Some(told) = notes.end(answer.status().as_u16(), usize::try_from(bytes).unwrap_or(usize::MAX)) {
        told.put(answer.headers_mut());
    }
    answer
}

/// How large the body may be, and its encoding.
fn form(context: &Context, headers: &HeaderMap) -> Result<(Limit, Option<Encoding>), Refusal> {
    let limits = &context.limits;
    let encoding = Encoding::named(headers, header::CONTENT_ENCODING);
    let encoding = encoding.map_err(|why| Refusal::new(Kind::UnknownEncoding, why))?;
    let whole = Limit { bytes: limits.http_body, what: "the request body", setting: "--max-http-body" };
    let json = Limit { bytes: limits.http_json, what: "the JSON of the request", setting: "--max-http-json" };
    // Without the header all of it is JSON. One that is no number is told of when it is decoded.
    match decode::told_length(headers) {
        None if json.bytes < whole.bytes => Ok((json, encoding)),
        Some(Some(length)) if length > json.bytes => Err(json.exceeded(&format!("of {length} bytes"))),
        _ => Ok((whole, encoding)),
    }
}

/// What is refused says what would not be.
pub(super) fn refused(refusal: Refusal) -> Response {
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

/// The request in a body of which so much is JSON, with its copies counted.
pub(super) fn decoded(
    limits: &Limits,
    target: Target,
    json_length: Option<usize>,
    body: Bytes,
    arrived: Instant,
) -> Result<Decoded> {
    let selector = target.selector()?;
    let counted = [body.as_ptr_range()];
    let mut decoded = decode::request(target.model, selector, json_length, body, arrived)?;
    let copies = count_copies(&mut decoded.request.inputs, &counted, limits);
    copies.map(|()| decoded).map_err(|refusal| refusal.error)
}

/// A decoded request in the queue, with its id and the form of its answer. `priority` is the header of the priority level.
pub(super) fn submitted(
    context: &Context,
    decoded: Result<Decoded>,
    priority: Option<&[u8]>,
    header: &Header<'_>,
    notes: &mut Notes,
) -> Result<(Submitted, String, Binary)> {
    let decoded = decoded.and_then(|mut decoded| {
        read_priority(priority, &mut decoded.request)?;
        Ok(decoded)
    });
    let Decoded { request, id, binary } = decoded.inspect_err(|error| context.router.undecoded(error))?;
    notes.named(&id);
    let (version, reason) = context.router.route(&request, header)?;
    notes.routed(version.version, reason);
    Ok((version.submit(request, reason)?, id, binary))
}

/// The answer, packed where the client wants it and it pays, and counted.
async fn on_its_way(
    context: &Context,
    unwritten: &Arc<Unwritten>,
    encoding: Option<Encoding>,
    answer: &router::Answer,
    encoded: Encoded,
) -> Result<Answer, Refusal> {
    let Encoded { mut body, json_length, mut share } = encoded;
    let mut headers = encode::headers(answer, json_length);
    if let Some(encoding) = encoding.filter(|_| body.len() >= WORTH_IT)
        && let Some(packed) = packed(encoding, &body, &mut share).await
    {
        body = packed;
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
    }
    context.limits.count_answer(&mut share, body.len())?;
    let mut response = Response::new(AnswerBody::Inference(outgoing(body, share, unwritten, &context.limits)));
    *response.headers_mut() = headers;
    Ok(response)
}

/// What an answer becomes in an encoding, if that pays and there is room for both.
pub(super) async fn packed(encoding: Encoding, body: &[u8], share: &mut Share) -> Option<Vec<u8>> {
    // While it is packed, others have the thread.
    let both = body.len().saturating_mul(2).saturating_sub(share.bytes());
    if !share.grow(both) {
        return None;
    }
    Box::pin(compress(encoding, body)).await
}
