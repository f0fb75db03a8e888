//! The last stage of the pipeline: the outcome of a request as a response, and its line in the request log.

use std::sync::Arc;

use crate::{
    api::{
        headers::{HeaderSink, MODEL_VERSION, ROUTING_REASON},
        request_log::{RequestRecord, ResponseTrace},
        transport::{Encoding, Limits, Refusal, Share},
    },
    router::Version,
    traffic::Reason,
};

/// An answered request.
pub(crate) struct Completed {
    /// The version that answered.
    pub version: Arc<Version>,
    /// Why it was that one.
    pub reason: Reason,
    /// The encoded answer, behind the free bytes that its transport wants.
    pub data: Vec<u8>,
    /// Length of the JSON in it, where binary tensors stand behind it.
    pub json_length: Option<usize>,
    /// The part of the byte budget that is held for it so far.
    pub share: Share,
    /// The encoding that it is compressed in, if any.
    pub encoding: Option<Encoding>,
}

/// Makes the responses of one transport.
pub(crate) trait Responder {
    type Response;

    /// The response with an answer.
    ///
    /// # Errors
    /// The answer can't be sent.
    fn answer(&self, completed: Completed, limits: &Limits) -> Result<Self::Response, Refusal>;

    /// The response with an error.
    fn refuse(&self, refusal: Refusal) -> Self::Response;

    /// The status in the request log, of an answer or of an error.
    fn status(refused: Option<&Refusal>) -> u16;

    /// Bytes of a response's body.
    fn body_bytes(response: &Self::Response) -> usize;

    /// Adds the request's id and its times to a response.
    fn add_trace(response: &mut Self::Response, trace: ResponseTrace);
}

/// Responds to a request, and ends its record.
pub(crate) fn respond<R: Responder>(
    responder: &R,
    limits: &Limits,
    completed: Result<Completed, Refusal>,
    mut record: RequestRecord,
) -> R::Response {
    let answered = completed.and_then(|completed| responder.answer(completed, limits));
    let status = R::status(answered.as_ref().err());
    let mut response = answered.unwrap_or_else(|refusal| {
        record.note_error(&refusal.error);
        responder.refuse(refusal)
    });
    if let Some(trace) = record.end(status, R::body_bytes(&response)) {
        R::add_trace(&mut response, trace);
    }
    response
}

/// Adds the headers that say which version answered, and why.
pub(super) fn put_version(version: &Version, reason: Reason, sink: &mut impl HeaderSink) {
    sink.put_shared(MODEL_VERSION, &version.number);
    sink.put_static(ROUTING_REASON, reason.label());
}
