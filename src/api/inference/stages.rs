//! The stages of the pipeline up to the encoded answer.

use bytes::Bytes;
use std::time::Instant;

use super::{request_headers::RequestHeaders, respond::Completed};
use crate::{
    api::{
        Context,
        dialect::{Decoded, Dialect, Encoded, Undecoded, read_priority},
        request_log::RequestRecord,
        transport::{Encoding, Limits, MAX_INLINE_BYTES, Refusal, compress_in_place, count_copies},
    },
    error::Result,
    router::{Answer, Meta, Pending},
};

/// A request in the queue of a version. Dropped, it is cancelled.
pub(crate) struct QueuedInference<D: Dialect> {
    pub pending: Pending,
    /// The id in its message.
    pub id: String,
    pub form: D::Form,
}

/// Decodes a message on the present thread.
pub(crate) fn decode<D: Dialect>(
    context: &Context,
    dialect: D,
    message: Bytes,
    arrived: Instant,
    record: &mut RequestRecord,
) -> Result<Decoded<D::Form>, Refusal> {
    let bytes = message.len();
    recorded(decoded(dialect, message, arrived, &context.limits), bytes, record)
}

/// Decodes a message that takes long, on a thread of the codec pool.
pub(super) async fn decode_on_pool<D: Dialect>(
    context: &Context,
    dialect: D,
    message: Bytes,
    arrived: Instant,
    record: &mut RequestRecord,
) -> Result<Decoded<D::Form>, Refusal> {
    let (limits, bytes, deadline) = (context.limits.clone(), message.len(), dialect.deadline(arrived));
    let work = move || decoded(dialect, message, arrived, &limits);
    let decoded = context.codecs.run(bytes, deadline, work).await?;
    recorded(decoded, bytes, record)
}

/// A decoded message, with its copies counted.
fn decoded<D: Dialect>(
    dialect: D,
    message: Bytes,
    arrived: Instant,
    limits: &Limits,
) -> Result<Decoded<D::Form>, Undecoded> {
    let memory = message.as_ptr_range();
    let mut decoded = dialect.decode(message, arrived, limits)?;
    let counted = if decoded.keeps_message { &[memory][..] } else { &[] };
    match count_copies(&mut decoded.request.inputs, counted, limits) {
        Ok(()) => Ok(decoded),
        Err(refusal) => Err(Undecoded { error: refusal.error, names: Some((decoded.request.model, decoded.id)) }),
    }
}

/// Notes the names in a message of so many bytes.
fn recorded<F>(
    decoded: Result<Decoded<F>, Undecoded>,
    bytes: usize,
    record: &mut RequestRecord,
) -> Result<Decoded<F>, Refusal> {
    match decoded {
        Ok(decoded) => {
            record.note_message(&decoded.request.model, &decoded.id, bytes);
            Ok(decoded)
        }
        Err(Undecoded { error, names }) => {
            if let Some((model, id)) = names {
                record.note_message(&model, &id, bytes);
            }
            Err(error.into())
        }
    }
}

/// Routes a decoded request and puts it into the queue of its version. A request that failed before is counted.
pub(crate) fn submit<D: Dialect>(
    context: &Context,
    decoded: Result<Decoded<D::Form>, Refusal>,
    headers: &impl RequestHeaders,
    record: &mut RequestRecord,
) -> Result<QueuedInference<D>, Refusal> {
    let decoded = decoded.and_then(|mut decoded| {
        read_priority(headers.priority(), &mut decoded.request)?;
        Ok(decoded)
    });
    let decoded = decoded.inspect_err(|refusal| context.router.count_unsubmitted(&refusal.error))?;
    let Decoded { request, id, form, .. } = decoded;
    match context.router.submit(request, &Meta { header: &|name| headers.value(name) }) {
        Ok(pending) => {
            record.note_routed(pending.version().version, pending.reason());
            Ok(QueuedInference { pending, id, form })
        }
        Err(rejected) => {
            if let Some((version, reason)) = rejected.routed {
                record.note_routed(version, reason);
            }
            Err(rejected.error.into())
        }
    }
}

/// Encodes an answer, and compresses it in `encoding` where that pays.
pub(super) async fn complete<D: Dialect>(
    context: &Context,
    answered: Result<Answer>,
    id: String,
    form: D::Form,
    encoding: Option<Encoding>,
    record: &mut RequestRecord,
) -> Result<Completed, Refusal> {
    let answer = answered?;
    record.note_run(answer.timing);
    let cost = D::encode_cost(&answer, &form);
    let mut completed = if cost > MAX_INLINE_BYTES {
        Box::pin(encode_on_pool::<D>(context, answer, id, form, cost)).await?
    } else {
        encoded::<D>(answer, &id, &form, &context.limits, &|| true)?
    };
    if let Some(encoding) = encoding {
        let Completed { data, share, .. } = &mut completed;
        completed.encoding = compress_in_place(encoding, data, D::PREFIX, share).await;
    }
    Ok(completed)
}

/// Encodes an answer that takes long, on a thread of the codec pool.
async fn encode_on_pool<D: Dialect>(
    context: &Context,
    answer: Answer,
    id: String,
    form: D::Form,
    cost: usize,
) -> Result<Completed, Refusal> {
    let limits = context.limits.clone();
    let work = move |is_wanted: &dyn Fn() -> bool| encoded::<D>(answer, &id, &form, &limits, is_wanted);
    context.codecs.run_while_wanted(cost, None, work).await?
}

fn encoded<D: Dialect>(
    answer: Answer,
    id: &str,
    form: &D::Form,
    limits: &Limits,
    is_wanted: &dyn Fn() -> bool,
) -> Result<Completed, Refusal> {
    let Encoded { data, json_length, share } = D::encode(&answer, id, form, limits, is_wanted)?;
    let Answer { version, reason, .. } = answer;
    Ok(Completed { version, reason, data, json_length, share, encoding: None })
}
