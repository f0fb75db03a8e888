//! Forms of gRPC that are not spoken here, and requests that are not gRPC.

use axum::http::{HeaderMap, StatusCode, header::CONTENT_TYPE};

use super::status::refused;
use crate::{
    api::transport::{
        http::refusal,
        ports::Ports,
        response_body::{HttpResponse, other},
    },
    error::{Code, Error},
};

/// Refuses forms of gRPC that are not spoken here, as its specification has it.
pub(in crate::api) fn refused_form(headers: &HeaderMap) -> Option<HttpResponse> {
    let form = headers.get(CONTENT_TYPE)?.as_bytes().strip_prefix(b"application/grpc")?;
    let (form, _) = form.split_at(form.iter().position(|byte| *byte == b';').unwrap_or(form.len()));
    let shown = String::from_utf8_lossy(form);
    match form.trim_ascii_end() {
        b"" | b"+proto" => None,
        [b'-', b'w', b'e', b'b', ..] => Some(other(refusal(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!(
                "gRPC-Web is not spoken here: expected application/grpc over HTTP/2, got application/grpc{shown}; a proxy such as \
                 Envoy (filter grpc_web) translates it"
            ),
        ))),
        _ => Some(refused(Error::new(
            Code::Unimplemented,
            format!(
                "messages of gRPC are encoded as Protocol Buffers here: expected application/grpc or application/grpc+proto, got \
                 application/grpc{shown}; over HTTP requests are JSON"
            ),
        ))),
    }
}

/// Refuses requests that are not gRPC, as its specification has it.
pub(in crate::api) fn not_grpc(ports: &Ports, path: &str, headers: &HeaderMap) -> Option<HttpResponse> {
    if is_grpc(headers) {
        return refused_form(headers);
    }
    let content_type = headers.get(CONTENT_TYPE);
    let got = content_type.map_or("none".into(), |value| format!("{value:?}"));
    let right = ports.right("grpc", path, false).unwrap_or_else(|| ports.place("http"));
    let message = format!("this port answers gRPC (content-type application/grpc), got content-type {got}; {right}");
    Some(other(refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)))
}

/// True if a request comes over gRPC, in any of its forms.
pub(in crate::api) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}
