//! The methods of the inference service: receive, call, answer.

use axum::http::{HeaderValue, Request};
use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    cost, decode, encode,
    proto::{
        ModelInferRequest, ModelMetadataRequest, ModelReadyRequest, ModelReadyResponse, ServerLiveRequest,
        ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
    },
};
use crate::api::transport::grpc::unary::{Call, decode as decode_message, refused, unary};
use crate::{
    api::{
        Context, EXTENSIONS, SERVER_NAME, SERVER_VERSION, Unwritten,
        dialect::parameters::{PRIORITY, read_priority},
        request_log::{Beside, Notes, Protocol, grpc_status},
        tell_version,
        transport::{
            body::count_copies,
            codec_pool::MAX_INLINE_BYTES,
            limits::Limits,
            memory_budget::Share,
            response_body::{Answer, AnswerBody, Trailers},
        },
    },
    error::{Code, Result},
    router::Submitted,
    tensor,
    traffic::Selector,
};

pub(super) async fn server_live(call: Call, body: Incoming) -> Answer {
    let context = call.context.clone();
    unary(call, body, |_: ServerLiveRequest| Ok(ServerLiveResponse { live: context.is_live() })).await
}

pub(super) async fn server_ready(call: Call, body: Incoming) -> Answer {
    let context = call.context.clone();
    unary(call, body, |_: ServerReadyRequest| Ok(ServerReadyResponse { ready: context.is_ready() })).await
}

pub(super) async fn model_ready(call: Call, body: Incoming) -> Answer {
    let context = call.context.clone();
    unary(call, body, |ModelReadyRequest { name, version }| {
        // As Triton does: clients wait in a loop for a model that is not there yet.
        let ready = context.model_ready(&name, &Selector::parse(&name, &version)?).unwrap_or(false);
        Ok(ModelReadyResponse { ready })
    })
    .await
}

pub(super) async fn server_metadata(call: Call, body: Incoming) -> Answer {
    let metadata = |_: ServerMetadataRequest| {
        Ok(ServerMetadataResponse {
            name: SERVER_NAME.into(),
            version: SERVER_VERSION.into(),
            extensions: EXTENSIONS.map(String::from).into(),
        })
    };
    unary(call, body, metadata).await
}

pub(super) async fn model_metadata(call: Call, body: Incoming) -> Answer {
    let context = call.context.clone();
    unary(call, body, |ModelMetadataRequest { name, version }| {
        let (table, version) = context.version(&name, &Selector::parse(&name, &version)?)?;
        Ok(encode::metadata(&table, &version))
    })
    .await
}

/// One inference: decode, call, encode. What is done between waiting is done in functions, so that what it takes is not part
/// of the future.
pub(super) fn model_infer(
    context: &Arc<Context>,
    unwritten: &Arc<Unwritten>,
    client: SocketAddr,
    request: Request<Incoming>,
) -> impl Future<Output = Answer> + Send + use<> {
    let (mut call, body) = Call::new(context, unwritten, request);
    let log = context.access_log.as_ref();
    let beside = Beside::read(&call.headers);
    let mut notes = Notes::begin(log, Protocol::Grpc, client, beside, call.arrived);
    async move {
        let limit = call.limit();
        let decoded = match call.receive(body, limit).await {
            Ok(message) if cost::to_parse(&message) > MAX_INLINE_BYTES => {
                Box::pin(decoded_aside(&call, message, &mut notes)).await
            }
            Ok(message) => {
                let asks = |model: &str, id: &str, bytes| {
                    notes.asks(model, bytes);
                    notes.named(id);
                };
                decoded(&call.context.limits, message, call.arrived, call.timeout(), asks)
            }
            Err(error) => Err(error),
        };
        let answered = match submitted(&mut call, decoded, &mut notes) {
            Ok((submitted, id)) => submitted.answer().await.and_then(|answer| {
                notes.ran(answer.timing);
                let length = encode::response_length(&answer, &id);
                let mut share = Share::new(&call.context.limits.budget);
                let room = call.context.limits.count_answer(&mut share, length);
                room.map(|()| (answer, id, length, share)).map_err(|refusal| refusal.error)
            }),
            Err(error) => Err(error),
        };
        let answered = match answered {
            Ok((answer, id, length, share)) if length > MAX_COPIED_INLINE => {
                let encode = move || {
                    let data = encode::response(&answer, &id, length);
                    (data, share, answer.version, answer.reason)
                };
                Box::pin(call.context.codecs.run(length / MAX_COPIED_INLINE * MAX_INLINE_BYTES, None, encode)).await
            }
            Ok((answer, id, length, share)) => {
                let data = encode::response(&answer, &id, length);
                Ok((data, share, answer.version, answer.reason))
            }
            Err(error) => Err(error),
        };
        let answered = match answered {
            Ok((data, share, version, reason)) => call.answer(data, share).await.map(|mut response| {
                tell_version(response.headers_mut(), &version, reason);
                response
            }),
            Err(error) => Err(error),
        };
        match answered {
            Ok(response) => told(response, None, notes),
            Err(error) => {
                notes.failed(&error);
                let code = error.code();
                told(refused(error), Some(code), notes)
            }
        }
    }
}

/// The answer with what is told beside it. What is known only at its end comes with the status.
fn told(mut response: Answer, failed: Option<Code>, notes: Notes) -> Answer {
    let bytes = response.body().size_hint().lower();
    let status = failed.map_or(0, grpc_status);
    let Some(told) = notes.end(status, usize::try_from(bytes).unwrap_or(usize::MAX)) else { return response };
    told.put_request_id(response.headers_mut());
    let timing = told.timing();
    match response.body_mut() {
        AnswerBody::Message(_, trailers) => *trailers = Trailers::Due(timing.map(Box::new)),
        // There is nothing but trailers.
        _ => told.put(response.headers_mut()),
    }
    response
}

/// A decoded request in the queue, and its id.
fn submitted(call: &mut Call, decoded: Result<Decoded>, notes: &mut Notes) -> Result<(Submitted, String)> {
    let router = &call.context.router;
    let decoded = decoded.and_then(|mut decoded| {
        let priority = call.headers.get(PRIORITY).map(HeaderValue::as_bytes);
        read_priority(priority, &mut decoded.request)?;
        Ok(decoded)
    });
    let Decoded { request, id, share } = decoded.inspect_err(|error| router.undecoded(error))?;
    call.decoded = share;
    let router = &call.context.router;
    let (version, reason) = router.route(&request, &|name| call.metadata(name))?;
    notes.routed(version.version, reason);
    Ok((version.submit(request, reason)?, id))
}

/// The request in a message, and its id.
struct Decoded {
    request: tensor::Request,
    id: String,
    /// Share of the byte budget for the message beside its tensors.
    share: Share,
}

/// A message that is smaller takes little, whatever is in it.
const SMALL: usize = 16 << 10;

/// Bytes of a message that are copied on the I/O thread at most: about a millisecond.
const MAX_COPIED_INLINE: usize = 4 << 20;

/// Decodes a message. `asks` is given the model's name, the id, and the message's length, whatever comes then.
fn decoded(
    limits: &Limits,
    message: Bytes,
    arrived: Instant,
    timeout: Result<Option<Duration>>,
    asks: impl FnOnce(&str, &str, usize),
) -> Result<Decoded> {
    let (bytes, memory) = (message.len(), message.as_ptr_range());
    let mut share = Share::new(&limits.budget);
    // What decoding takes beside the message, where that can be much.
    if bytes >= SMALL && !share.grow(cost::decoded(&message)) {
        return Err(limits.full().error);
    }
    let message: ModelInferRequest = decode_message(message)?;
    // Raw contents are slices of it, and keep it. Of others nothing is left of it.
    let counted = if message.raw_input_contents.is_empty() { &[][..] } else { &[memory] };
    asks(&message.model_name, &message.id, bytes);
    let timeout = timeout?;
    let id = message.id.clone();
    let mut request = decode::request(message, arrived)?;
    count_copies(&mut request.inputs, counted, limits).map_err(|refusal| refusal.error)?;
    let from_header = timeout.and_then(|timeout| arrived.checked_add(timeout));
    request.deadline = request.deadline.into_iter().chain(from_header).min();
    Ok(Decoded { request, id, share })
}

/// A message with much to parse, decoded by the pool.
async fn decoded_aside(call: &Call, message: Bytes, notes: &mut Notes) -> Result<Decoded> {
    let (limits, arrived, timeout, bytes) = (call.context.limits.clone(), call.arrived, call.timeout(), message.len());
    let deadline = timeout.as_ref().ok().copied().flatten().and_then(|timeout| arrived.checked_add(timeout));
    let work = move || {
        let mut asked = None;
        let asks = |model: &str, id: &str, _| asked = Some((model.to_owned(), id.to_owned()));
        let decoded = decoded(&limits, message, arrived, timeout, asks);
        (asked, decoded)
    };
    let (asked, decoded) = call.context.codecs.run(bytes, deadline, work).await?;
    if let Some((model, id)) = asked {
        notes.asks(&model, bytes);
        notes.named(&id);
    }
    decoded
}
