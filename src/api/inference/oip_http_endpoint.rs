//! Inferences over HTTP whose body hyper reads.

use axum::http::{HeaderMap, Method, Request, StatusCode, Version, header};
use bytes::Bytes;
use futures_util::future::Either;
use hyper::body::{Body as _, Incoming};
use std::{future::ready, net::SocketAddr, sync::Arc, time::Instant};

use super::{
    endpoint::{self, Endpoint},
    respond::{Completed, Responder, put_version},
};
use crate::{
    api::{
        Context,
        dialect::oip_http::{OipHttp, PathTarget, announced_json_length, json_length},
        headers::{HeaderSink, JSON_LENGTH},
        request_log::{Protocol, ResponseTrace},
        transport::{
            AnswerBody, ByteLimit, Encoding, HttpResponse, Limits, PendingResponses, Pieces, Refusal, RefusalKind,
            http::{refused, wrong_method},
            other, outgoing,
        },
    },
    error::Result,
};

/// Answers a request of a client for an inference, over a connection that has `pending` responses.
pub(in crate::api) fn infer(
    context: &Arc<Context>,
    pending: &Arc<PendingResponses>,
    client: SocketAddr,
    target: Result<PathTarget>,
    request: Request<Incoming>,
) -> impl Future<Output = HttpResponse> + Send + use<> {
    let refusal = match target {
        _ if request.method() != Method::POST => wrong_method(request.method(), request.uri(), "POST"),
        Ok(target) => {
            let (head, body) = request.into_parts();
            let endpoint = HttpEndpoint { target, version: head.version, pending: pending.clone() };
            return Either::Left(endpoint::infer(context.clone(), endpoint, client, head.headers, body));
        }
        Err(error) => refused(&error.into()),
    };
    Either::Right(ready(other(refusal)))
}

struct HttpEndpoint {
    /// Taken by the dialect.
    target: PathTarget,
    version: Version,
    /// The responses of the connection that are not written yet.
    pending: Arc<PendingResponses>,
}

impl Endpoint for HttpEndpoint {
    type Dialect = OipHttp;

    const PROTOCOL: Protocol = Protocol::Http;

    fn model(&self) -> Option<&str> {
        Some(self.target.model())
    }

    fn receive(
        &mut self,
        headers: &HeaderMap,
        body: Incoming,
        limits: &Arc<Limits>,
        arrived: Instant,
    ) -> impl Future<Output = Result<Bytes, Refusal>> + Send {
        // A client that is still sending reads no answer before it is done, and a connection that closes under it takes the
        // answer along. One that asks first has not begun, and would be asked to.
        let discards = self.version <= Version::HTTP_11 && !headers.contains_key(header::EXPECT);
        let binary = announced_json_length(headers).flatten().unwrap_or(0);
        let form = body_form(limits, headers);
        let pieces = form.map(|form| (Pieces::new(body, limits, arrived).aligning(binary), form));
        async move {
            let (pieces, (limit, encoding)) = pieces?;
            pieces.collect(limit, encoding, discards).await
        }
    }

    fn dialect(&mut self, headers: &HeaderMap, message: &[u8]) -> Result<OipHttp> {
        let json_length = json_length(self.target.model(), headers, message.len())?;
        Ok(OipHttp { target: std::mem::take(&mut self.target), json_length })
    }

    fn encoding(&self, headers: &HeaderMap) -> Option<Encoding> {
        Encoding::accepted(headers, header::ACCEPT_ENCODING)
    }
}

impl Responder for HttpEndpoint {
    type Response = HttpResponse;

    fn answer(&self, completed: Completed, limits: &Limits) -> Result<HttpResponse, Refusal> {
        let mut headers = HeaderMap::new();
        put_answer_headers(&completed, &mut headers);
        let Completed { data, mut share, .. } = completed;
        limits.count_answer(&mut share, data.len())?;
        let mut response = HttpResponse::new(AnswerBody::Inference(outgoing(data, share, &self.pending, limits)));
        *response.headers_mut() = headers;
        Ok(response)
    }

    fn refuse(&self, refusal: Refusal) -> HttpResponse {
        other(refused(&refusal))
    }

    fn status(refused: Option<&Refusal>) -> u16 {
        http_status(refused)
    }

    fn body_bytes(response: &HttpResponse) -> usize {
        let bytes = response.body().size_hint().exact().unwrap_or_default();
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    fn add_trace(response: &mut HttpResponse, trace: ResponseTrace) {
        trace.put(response.headers_mut());
    }
}

/// The HTTP status of an answer, or of an error.
pub(crate) fn http_status(refused: Option<&Refusal>) -> u16 {
    refused.map_or(StatusCode::OK.as_u16(), Refusal::http)
}

/// Adds the headers of an answer's body, and those that say which version answered.
pub(crate) fn put_answer_headers(completed: &Completed, sink: &mut impl HeaderSink) {
    put_version(&completed.version, completed.reason, sink);
    let content_type = if completed.json_length.is_none() { "application/json" } else { "application/octet-stream" };
    sink.put_static(header::CONTENT_TYPE, content_type);
    if let Some(json_length) = completed.json_length {
        sink.put_number(JSON_LENGTH, json_length);
    }
    if let Some(encoding) = completed.encoding {
        sink.put_static(header::CONTENT_ENCODING, encoding.name());
    }
}

/// The limit of a body, and its encoding.
fn body_form(limits: &Limits, headers: &HeaderMap) -> Result<(ByteLimit, Option<Encoding>), Refusal> {
    let encoding = Encoding::named(headers, header::CONTENT_ENCODING);
    let encoding = encoding.map_err(|why| Refusal::new(RefusalKind::UnknownEncoding, why))?;
    let whole = ByteLimit { bytes: limits.http_body, what: "the request body", setting: "--max-http-body" };
    let json = ByteLimit { bytes: limits.http_json, what: "the JSON of the request", setting: "--max-http-json" };
    // Without the header all of it is JSON. One that is no number is refused when it is decoded.
    match announced_json_length(headers) {
        None if json.bytes < whole.bytes => Ok((json, encoding)),
        Some(Some(length)) if length > json.bytes => Err(json.exceeded(&format!("of {length} bytes"))),
        _ => Ok((whole, encoding)),
    }
}
