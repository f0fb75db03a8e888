//! One request on the fast path: its body, the pipeline, its answer.

use axum::{
    body::Body,
    http::{Request, Uri},
};
use bytes::Bytes;
use futures_util::future::Either;
use std::{net::SocketAddr, sync::Arc, time::Instant};
use tower_service::Service as _;

use super::{
    head::{self, Call, Head, HeadBytes, InferHead, ParseOutcome},
    reply::{Http1Responder, Reply},
};
use crate::api::{
    Context, PendingResponses, Service,
    dialect::oip_http::OipHttp,
    inference::{QueuedInference, RequestHeaders, decode, finish, submit},
    request_log::{Protocol, RequestRecord},
    transport::{Encoding, Outgoing, Refusal, Share, aligned_copy, guarded, outgoing},
};

/// Answers requests of one client.
pub(crate) struct FastPath {
    context: Arc<Context>,
    rest: axum::Router,
    client: SocketAddr,
}

/// A request that has begun. Dropping it cancels the request.
pub(super) enum Started {
    Inference {
        submitted: Result<QueuedInference<OipHttp>, Refusal>,
        encoding: Option<Encoding>,
        record: RequestRecord,
    },
    Get(Uri),
}

impl FastPath {
    /// The fast path of a port for a client; `None` if the port is not for inference over HTTP.
    pub(crate) fn of(service: &Service, client: SocketAddr) -> Option<Self> {
        let (context, rest) = service.http_parts()?;
        Some(FastPath { context: context.clone(), rest: rest.clone(), client })
    }

    /// Parses the next bytes of a connection.
    pub(super) fn parse(&self, bytes: &[u8]) -> ParseOutcome {
        match head::parse(bytes) {
            ParseOutcome::Known(head) if !self.takes(&head) => ParseOutcome::Other,
            outcome => outcome,
        }
    }

    /// True if the body is within its limits.
    fn takes(&self, head: &Head) -> bool {
        let limits = &self.context.limits;
        match head.call {
            Call::Infer(InferHead { json_length, .. }) => {
                head.body <= limits.http_body && json_length.unwrap_or(head.body) <= limits.http_json
            }
            Call::Get(_) => true,
        }
    }

    /// Starts a request that has arrived whole: these are the bytes of its head and body.
    pub(super) fn start(&self, head: Head, bytes: &[u8]) -> Started {
        let (head_bytes, body) = bytes.split_at(head.length.min(bytes.len()));
        let InferHead { target, json_length, encoding, found } = match head.call {
            Call::Infer(infer) => infer,
            Call::Get(uri) => return Started::Get(uri),
        };
        let (context, arrived) = (&*self.context, Instant::now());
        let log = context.access_log.as_ref();
        let headers = HeadBytes { bytes: head_bytes, found, is_logged: log.is_some() };
        let mut record = RequestRecord::begin(log, Protocol::Http, self.client, headers.trace(), arrived);
        record.note_message(target.model(), "", body.len());
        // Bodies are small: none is decoded on another thread.
        let decoded = self
            .copy(body, json_length)
            .and_then(|body| decode(context, OipHttp { target, json_length }, body, arrived, &mut record));
        let submitted = submit(context, decoded, &headers, &mut record);
        Started::Inference { submitted, encoding, record }
    }

    /// Copies a body that is counted, and aligns the binary tensors behind its JSON.
    fn copy(&self, body: &[u8], json_length: Option<usize>) -> Result<Bytes, Refusal> {
        let limits = &self.context.limits;
        let mut share = Share::new(&limits.budget);
        if !share.grow(body.len()) {
            return Err(limits.full());
        }
        let is_empty = body.is_empty();
        Ok(if is_empty { Bytes::new() } else { guarded(aligned_copy(body, json_length.unwrap_or(0)), share) })
    }

    /// Waits for the answer. No `async fn`: its future would hold the request twice.
    pub(super) fn answer(&self, started: Started) -> impl Future<Output = Reply> {
        match started {
            Started::Inference { submitted, encoding, record } => {
                Either::Left(finish(&self.context, &Http1Responder, submitted, encoding, record))
            }
            Started::Get(uri) => Either::Right(Box::pin(self.get(uri))),
        }
    }

    /// The answer to a request that depends on the path alone.
    async fn get(&self, uri: Uri) -> Reply {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = uri;
        let Ok(response) = self.rest.clone().call(request).await;
        Reply::of(response, &self.context.limits).await
    }

    /// The rest of an answer that was not written at once; its connection tracks it until it is written. A body that was not
    /// joined with its head needs no share here: its bytes carry their own.
    pub(super) fn outgoing(&self, rest: Bytes, pending: &Arc<PendingResponses>) -> Outgoing {
        outgoing(rest, Share::new(&self.context.limits.budget), pending, &self.context.limits)
    }
}
