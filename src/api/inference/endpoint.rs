//! Endpoint of inferences: receives the message of a request and takes it through every stage of the pipeline.

use axum::http::HeaderMap;
use bytes::Bytes;
use hyper::body::Incoming;
use std::{net::SocketAddr, sync::Arc, time::Instant};

use super::{
    finish::finish,
    request_headers::RequestHeaders,
    respond::Responder,
    stages::{decode, decode_on_pool, submit},
};
use crate::{
    api::{
        Context,
        dialect::Dialect,
        request_log::{Protocol, RequestRecord},
        transport::{Encoding, HttpResponse, Limits, MAX_INLINE_BYTES, Refusal},
    },
    error::Result,
};

/// Receives the messages of one dialect over one transport, and responds to them.
pub(super) trait Endpoint: Responder<Response = HttpResponse> + Send + Sync + 'static {
    type Dialect: Dialect;

    const PROTOCOL: Protocol;

    /// The model's name, where it is known before the message.
    fn model(&self) -> Option<&str> {
        None
    }

    /// Receives the message.
    fn receive(
        &mut self,
        headers: &HeaderMap,
        body: Incoming,
        limits: &Arc<Limits>,
        arrived: Instant,
    ) -> impl Future<Output = Result<Bytes, Refusal>> + Send;

    /// The dialect of a message that was received.
    fn dialect(&mut self, headers: &HeaderMap, message: &[u8]) -> Result<Self::Dialect>;

    /// The encoding that the client wants its answer compressed in.
    fn encoding(&self, headers: &HeaderMap) -> Option<Encoding>;
}

/// Answers a request of a client.
pub(super) fn infer<E: Endpoint>(
    context: Arc<Context>,
    mut endpoint: E,
    client: SocketAddr,
    headers: HeaderMap,
    body: Incoming,
) -> impl Future<Output = HttpResponse> + Send + use<E> {
    let arrived = Instant::now();
    let mut record = RequestRecord::begin(context.access_log.as_ref(), E::PROTOCOL, client, headers.trace(), arrived);
    async move {
        let received = endpoint.receive(&headers, body, &context.limits, arrived).await;
        if let Some(model) = endpoint.model() {
            record.note_message(model, "", received.as_ref().map_or(0, Bytes::len));
        }
        let received = received.and_then(|message| Ok((endpoint.dialect(&headers, &message)?, message)));
        let decoded = match received {
            Ok((dialect, message)) if dialect.decode_cost(&message) > MAX_INLINE_BYTES => {
                Box::pin(decode_on_pool(&context, dialect, message, arrived, &mut record)).await
            }
            Ok((dialect, message)) => decode(&context, dialect, message, arrived, &mut record),
            Err(refusal) => Err(refusal),
        };
        let submitted = submit::<E::Dialect>(&context, decoded, &headers, &mut record);
        let encoding = endpoint.encoding(&headers);
        // They lie in the read buffer, which is read into again while the answer is waited for.
        drop(headers);
        finish(&context, &endpoint, submitted, encoding, record).await
    }
}
