//! Inferences over gRPC.

use axum::http::{HeaderMap, Request};
use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use std::{net::SocketAddr, sync::Arc, time::Instant};

use super::{
    endpoint::{self, Endpoint},
    respond::{Completed, Responder, put_version},
};
use crate::{
    api::{
        Context,
        dialect::oip_grpc::{OipGrpc, tensor_place},
        request_log::{Protocol, ResponseTrace, grpc_status},
        transport::{
            AnswerBody, ByteLimit, Encoding, HttpResponse, Limits, PendingResponses, Refusal, Trailers,
            grpc::{self, message_response, receive_message},
        },
    },
    error::Result,
};

/// Answers a call of `ModelInfer` over a connection that has `pending` responses.
pub(in crate::api) fn infer(
    context: &Arc<Context>,
    pending: &Arc<PendingResponses>,
    client: SocketAddr,
    request: Request<Incoming>,
) -> impl Future<Output = HttpResponse> + Send + use<> {
    let (head, body) = request.into_parts();
    let endpoint = GrpcEndpoint { encoding: None, pending: pending.clone() };
    endpoint::infer(context.clone(), endpoint, client, head.headers, body)
}

struct GrpcEndpoint {
    /// The encoding that the message came in, if any, and that the client reads.
    encoding: Option<Encoding>,
    /// The responses of the connection that are not written yet.
    pending: Arc<PendingResponses>,
}

impl Endpoint for GrpcEndpoint {
    type Dialect = OipGrpc;

    const PROTOCOL: Protocol = Protocol::Grpc;

    async fn receive(
        &mut self,
        headers: &HeaderMap,
        body: Incoming,
        limits: &Arc<Limits>,
        arrived: Instant,
    ) -> Result<Bytes, Refusal> {
        let limit = ByteLimit { bytes: limits.grpc_message, what: "the message", setting: "--max-grpc-message" };
        let (message, encoding) = receive_message(headers, body, limit, limits, arrived, tensor_place).await?;
        self.encoding = encoding;
        Ok(message)
    }

    fn dialect(&mut self, headers: &HeaderMap, _message: &[u8]) -> Result<OipGrpc> {
        Ok(OipGrpc { timeout: grpc::timeout(headers) })
    }

    fn encoding(&self, _headers: &HeaderMap) -> Option<Encoding> {
        self.encoding
    }
}

impl Responder for GrpcEndpoint {
    type Response = HttpResponse;

    fn answer(&self, completed: Completed, limits: &Limits) -> Result<HttpResponse, Refusal> {
        let Completed { version, reason, data, share, encoding, .. } = completed;
        let mut response = message_response(data, share, encoding, &self.pending, limits)?;
        put_version(&version, reason, response.headers_mut());
        Ok(response)
    }

    fn refuse(&self, refusal: Refusal) -> HttpResponse {
        grpc::refused(refusal.error)
    }

    fn status(refused: Option<&Refusal>) -> u16 {
        refused.map_or(0, |refusal| grpc_status(refusal.error.code()))
    }

    fn body_bytes(response: &HttpResponse) -> usize {
        usize::try_from(response.body().size_hint().lower()).unwrap_or(usize::MAX)
    }

    /// The times, which are known only at the end of a call, come with its status.
    fn add_trace(response: &mut HttpResponse, trace: ResponseTrace) {
        trace.put_request_id(response.headers_mut());
        let timing = trace.server_timing();
        match response.body_mut() {
            AnswerBody::Message(_, trailers) => *trailers = Trailers::Due(timing.map(Box::new)),
            // An error has nothing but trailers.
            AnswerBody::Inference(_) | AnswerBody::Other(_) => trace.put(response.headers_mut()),
        }
    }
}
