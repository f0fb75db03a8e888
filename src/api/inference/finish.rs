//! The way of a request from the queue to its response: it waits, is completed, and is responded to.

use super::{
    respond::{Responder, respond},
    stages::{QueuedInference, complete},
};
use crate::api::{
    Context,
    dialect::Dialect,
    request_log::RequestRecord,
    transport::{Encoding, Refusal},
};

/// Waits for the answer to a request that was submitted, and responds to it. A request that was refused is responded to at once.
pub(crate) async fn finish<D: Dialect, R: Responder>(
    context: &Context,
    responder: &R,
    submitted: Result<QueuedInference<D>, Refusal>,
    encoding: Option<Encoding>,
    mut record: RequestRecord,
) -> R::Response {
    let completed = match submitted {
        Ok(QueuedInference { pending, id, form }) => {
            let answered = pending.answer().await;
            complete::<D>(context, answered, id, form, encoding, &mut record).await
        }
        Err(refusal) => Err(refusal),
    };
    respond(responder, &context.limits, completed, record)
}
