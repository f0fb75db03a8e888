//! One request on the fast path: its body, the pipeline, its answer.

use axum::{
    body::Body,
    http::{Request, Uri},
};
use bytes::Bytes;
use std::{net::SocketAddr, sync::Arc, time::Instant};
use tower_service::Service as _;

use super::{
    head::{self, Call, Head, HeadBytes, InferHead, ParseOutcome},
    reply::{Http1Responder, Reply},
};
use crate::api::{
    Context, PendingResponses, Service,
    dialect::oip_http::OipHttp,
    inference::{RequestHeaders, Submitted, complete, decode, respond, submit},
    request_log::{Protocol, RequestRecord},
    transport::{Encoding, Outgoing, Refusal, Share, aligned_copy, guarded, outgoing},
};

/// Answers requests of one client.
pub(crate) struct FastPath {
    context: Arc<Context>,
    rest: axum::Router,
    client: SocketAddr,
}

/// A request that has begun. Dropped, it is cancelled.
pub(super) enum Started {
    Inference { submitted: Result<Submitted<OipHttp>, Refusal>, encoding: Option<Encoding>, record: RequestRecord },
    Get(Uri),
}

impl FastPath {
    /// The fast path of a port, if it is one over HTTP, for a client.
    pub(crate) fn of(service: &Service, client: SocketAddr) -> Option<Self> {
        let (context, rest) = service.http_parts()?;
        Some(FastPath { context: context.clone(), rest: rest.clone(), client })
    }

    /// Parses what comes next on a connection.
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

    /// Begins a request that has come whole: these are the bytes of its head and body.
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

    /// Copies a body that is counted, with the binary tensors behind its JSON aligned.
    fn copy(&self, body: &[u8], json_length: Option<usize>) -> Result<Bytes, Refusal> {
        let limits = &self.context.limits;
        let mut share = Share::new(&limits.budget);
        if !share.grow(body.len()) {
            return Err(limits.full());
        }
        let is_empty = body.is_empty();
        Ok(if is_empty { Bytes::new() } else { guarded(aligned_copy(body, json_length.unwrap_or(0)), share) })
    }

    /// Waits for the answer.
    pub(super) async fn answer(&self, started: Started) -> Reply {
        let (context, limits) = (&*self.context, &self.context.limits);
        match started {
            Started::Inference { submitted, encoding, mut record } => {
                let completed = match submitted {
                    Ok(Submitted { pending, id, form }) => {
                        let answered = pending.answer().await;
                        complete::<OipHttp>(context, answered, id, form, encoding, &mut record).await
                    }
                    Err(refusal) => Err(refusal),
                };
                respond(&Http1Responder, limits, completed, record)
            }
            Started::Get(uri) => Box::pin(self.get(uri)).await,
        }
    }

    /// The answer to a request that depends on nothing but the path.
    async fn get(&self, uri: Uri) -> Reply {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = uri;
        let Ok(response) = self.rest.clone().call(request).await;
        Reply::of(response, &self.context.limits).await
    }

    /// The rest of an answer that is not written at once, known to its connection until it is. What was not written together with
    /// its head is counted with its bytes.
    pub(super) fn outgoing(&self, rest: Bytes, pending: &Arc<PendingResponses>) -> Outgoing {
        outgoing(rest, Share::new(&self.context.limits.budget), pending, &self.context.limits)
    }
}
