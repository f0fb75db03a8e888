//! Over HTTP: the messages in JSON.

use axum::{
    Json,
    body::Body,
    extract::{FromRequestParts, RawPathParams, Request, State},
    http::{
        HeaderValue, Method, StatusCode, Uri,
        header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http_body_util::BodyExt;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use std::{convert::Infallible, fmt::Display, time::Duration};
use tokio::time::timeout;

use super::{
    Admin, is_grpc, openapi,
    proto::{Event, WatchRequest},
    routes::{self, ROOT, in_query},
    strict_json, watch,
};
use crate::{
    api::{
        Ports, shown,
        transport::{
            limits::Limits,
            memory_budget::{Share, guarded},
            wrong_port,
        },
    },
    error::{Code, Error, Result},
    traffic::check_alias,
};

/// Bytes of a body at most.
const LARGEST: usize = 256 << 10;

/// How often a stream of events says something, so that a client that has gone is noticed and proxies keep it open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Every call.
pub(super) fn routes(admin: Admin) -> axum::Router {
    let router = routes::all()
        .into_iter()
        .fold(axum::Router::new(), |router, route| router.route(&format!("{ROOT}{}", route.path), route.handler));
    router.method_not_allowed_fallback(method_not_allowed).with_state(admin)
}

/// What needs no token.
pub(super) fn open() -> axum::Router {
    let document = Bytes::from(openapi::document());
    let answer = async move || ([(CONTENT_TYPE, "application/json")], document.clone()).into_response();
    axum::Router::new()
        .route(&format!("{ROOT}/openapi.json"), get(answer))
        .method_not_allowed_fallback(method_not_allowed)
}

pub(super) fn nothing_there(ports: &Ports, request: &Request) -> Response {
    let path = request.uri().path();
    if is_grpc(request) {
        return wrong_port::nothing_there(ports, "admin", request);
    }
    let advice = ports.advice("admin", path, false);
    let why = format!("there is nothing at {path}{advice}; GET {ROOT}/openapi.json tells what there is");
    refused(&Error::new(Code::NotFound, why))
}

async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    let takes: Vec<_> = routes::all().into_iter().filter(|route| fits(route.path, uri.path())).collect();
    let takes: Vec<_> = takes.iter().map(|route| route.method.as_str()).collect();
    let takes = if takes.is_empty() { vec!["GET"] } else { takes };
    let why = format!("{} takes {}, got {method}", uri.path(), takes.join(" and "));
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, &why);
    if let Ok(allowed) = HeaderValue::try_from(takes.join(", ")) {
        response.headers_mut().insert(ALLOW, allowed);
    }
    response
}

/// Whether a path is one of a route.
fn fits(route: &str, path: &str) -> bool {
    let path = path.strip_prefix(ROOT).unwrap_or_default();
    route.split('/').count() == path.split('/').count()
        && route.split('/').zip(path.split('/')).all(|(expected, got)| expected.starts_with('{') || expected == got)
}

/// An answer.
pub(super) fn told<A: Serialize>(answer: Result<A>) -> Response {
    match answer {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => refused(&error),
    }
}

/// An error as every call tells it.
pub(super) fn refused(refused: &Error) -> Response {
    let status = StatusCode::from_u16(refused.code().http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    error(status, refused.code(), refused.message())
}

fn error(status: StatusCode, code: Code, message: &str) -> Response {
    (status, Json(json!({ "error": shown(message), "code": code.label() }))).into_response()
}

/// The message of a request: parts of the path, and the query or the body.
pub(super) async fn message<Q: DeserializeOwned>(request: Request, limits: &Limits) -> Result<Q, Response> {
    let (mut head, body) = request.into_parts();
    let (method, path) = (head.method.clone(), head.uri.path().to_owned());
    let wrong = |why: &dyn Display| refused(&Error::invalid(format!("{method} {path}: {why}")));
    let parameters = RawPathParams::from_request_parts(&mut head, &()).await;
    let parameters = parameters.map_err(|rejection| wrong(&rejection.body_text()))?;
    let query = head.uri.query().unwrap_or_default();
    if in_query(&method) {
        return from_query(&parameters, query).map_err(|why| wrong(&why));
    }
    if !query.is_empty() {
        return Err(wrong(&format!("fields stand in the body, as JSON; got the query '{query}'")));
    }
    let body = read(body, limits).await?;
    from_json(&parameters, &body).map_err(|why| wrong(&why))
}

/// The whole body, counted until it is decoded.
async fn read(body: Body, limits: &Limits) -> Result<Bytes, Response> {
    let too_slow = |_| {
        let why = format!("the body did not come within {:?} (--body-timeout)", limits.body_timeout);
        error(StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded, &why)
    };
    timeout(limits.body_timeout, collect(body, limits)).await.map_err(too_slow)?
}

async fn collect(mut body: Body, limits: &Limits) -> Result<Bytes, Response> {
    let (mut data, mut share) = (Vec::new(), Share::new(&limits.budget));
    while let Some(frame) = body.frame().await {
        let cut_off = |why| refused(&Error::invalid(format!("the body can't be read: {why}")));
        let piece = frame.map_err(cut_off)?.into_data().unwrap_or_default();
        if data.len() + piece.len() > LARGEST {
            let why = format!("the body is larger than the limit of {LARGEST} bytes");
            return Err(error(StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted, &why));
        }
        if !share.grow(piece.len()) {
            return Err(refused(&limits.full().error));
        }
        data.extend_from_slice(&piece);
    }
    Ok(guarded(data, share))
}

fn from_query<Q: DeserializeOwned>(parameters: &RawPathParams, query: &str) -> Result<Q, String> {
    let told: Result<Vec<(String, String)>, _> = serde_urlencoded::from_str(query);
    let mut fields = told.map_err(|error| format!("the query can't be read: {error}"))?;
    for (name, value) in parameters {
        if fields.iter().any(|(field, _)| field == name) {
            return Err(format!("{name}: stands in the path and in the query"));
        }
        fields.push((name.into(), value.into()));
    }
    let encoded = serde_urlencoded::to_string(&fields).map_err(|error| error.to_string())?;
    let fields = serde_urlencoded::Deserializer::new(form(&encoded));
    serde_path_to_error::deserialize(fields).map_err(|error| field_error(&error))
}

fn form(encoded: &str) -> form_urlencoded::Parse<'_> {
    form_urlencoded::parse(encoded.as_bytes())
}

fn from_json<Q: DeserializeOwned>(parameters: &RawPathParams, body: &[u8]) -> Result<Q, String> {
    let mut fields = strict_json::fields(body)?;
    for (name, value) in parameters {
        insert(&mut fields, name, value)?;
    }
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| field_error(&error))
}

/// Puts a part of the path among the fields. The body may repeat it. In the place of a version may stand an alias.
fn insert(fields: &mut Map<String, Value>, name: &str, value: &str) -> Result<(), String> {
    let (name, value) = match name {
        "version" => match value.parse::<u64>() {
            Ok(number) => (name, Value::from(number)),
            Err(_) if check_alias(value).is_ok() => ("version_alias", Value::from(value)),
            Err(_) => return Err(format!("version: expected an integer > 0 or an alias, got '{value}'")),
        },
        _ => (name, Value::from(value)),
    };
    match fields.insert(name.into(), value.clone()) {
        Some(other) if other != value => Err(format!("{name}: the path says {value}, and the body {other}")),
        _ => Ok(()),
    }
}

/// Names the field, and types as people call them.
fn field_error<E: Display>(error: &serde_path_to_error::Error<E>) -> String {
    let why = error.inner().to_string().replace("expected f64", "expected a number");
    let why = why.replace("expected u64", "expected an integer of at least 0");
    let why = why.replace("expected key to be a number in quotes", "expected keys that are integers of at least 0");
    let why = why.replace("invalid digit found in string", "expected an integer of at least 0");
    let path = error.path().to_string();
    if path == "." { why } else { format!("{path}: {why}") }
}

/// `GET /admin/v1/watch`: server-sent events. Each has its kind as its name, its number in the stream as its id, and the
/// message as its data.
pub(super) async fn watch(State(admin): State<Admin>, request: Request) -> Response {
    let message: WatchRequest = match message(request, &admin.limits).await {
        Ok(message) => message,
        Err(refused) => return refused,
    };
    match watch::events(admin, message).await {
        Ok(events) => {
            let head = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-cache")];
            let mut response = (head, Body::from_stream(server_sent(events))).into_response();
            // nginx would gather them.
            response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
            response
        }
        Err(error) => refused(&error),
    }
}

fn server_sent(events: impl Stream<Item = Event> + Send) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let events = Box::pin(events.enumerate());
    stream::unfold(events, async |mut events| {
        let text = match timeout(KEEP_ALIVE, events.next()).await {
            Err(_) => ": nothing has happened\n\n".into(),
            Ok(None) => return None,
            Ok(Some((index, event))) => {
                let data = serde_json::to_string(&event).unwrap_or_default();
                format!("event: {}\nid: {}\ndata: {data}\n\n", event.kind, index + 1)
            }
        };
        Some((Ok(Bytes::from(text)), events))
    })
}
