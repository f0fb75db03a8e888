//! Messages of admin calls over HTTP: parts of the path, and the query or the body as JSON.

use axum::{
    body::Body,
    extract::{FromRequestParts, RawPathParams, Request},
    http::{Method, StatusCode},
    response::Response,
};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::fmt::Display;
use tokio::time::timeout;

use super::{
    http_response::{error, refused},
    strict_json,
};
use crate::{
    api::transport::{Limits, Share, guarded},
    error::{Code, Error, Result},
    traffic::check_alias,
};

/// Bytes of a body at most.
const MAX_BODY_BYTES: usize = 256 << 10;

/// True if the fields of the message that are not in the path stand in the query, not in the body.
pub(super) fn in_query(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::DELETE)
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
        if data.len() + piece.len() > MAX_BODY_BYTES {
            let why = format!("the body is larger than the limit of {MAX_BODY_BYTES} bytes");
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
    let fields: Result<Vec<(String, String)>, _> = serde_urlencoded::from_str(query);
    let mut fields = fields.map_err(|error| format!("the query can't be read: {error}"))?;
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
