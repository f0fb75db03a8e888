//! The methods of the inference service: receive, call, answer.

use axum::http::Request;
use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use std::{net::SocketAddr, sync::Arc};

use super::{
    decode, encode,
    proto::{
        ModelInferRequest, ModelMetadataRequest, ModelReadyRequest, ModelReadyResponse, ServerLiveRequest,
        ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
    },
    unary::{Call, refused, unary},
};
use crate::{
    api::{
        Context, EXTENSIONS, SERVER_NAME, SERVER_VERSION, Unwritten,
        access::{Beside, Notes, Protocol, grpc_status},
        answer::{Answer, AnswerBody, Trailers},
        body::count_copies,
        parameters::{PRIORITY, read_priority},
        tell_version,
    },
    error::{Code, Result},
    router::Submitted,
    tensor,
    traffic::Selector,
};

pub(super) async fn server_live(call: Call, body: Incoming) -> Answer {
    unary(call, body, |_: ServerLiveRequest| Ok(ServerLiveResponse { live: true })).await
}

pub(super) async fn server_ready(call: Call, body: Incoming) -> Answer {
    let context = call.context.clone();
    unary(call, body, |_: ServerReadyRequest| Ok(ServerReadyResponse { ready: context.is_ready() })).await
}

pub(super) async fn model_ready(call: Call, body: Incoming) -> Answer {
    let context = call.context.clone();
    unary(call, body, |ModelReadyRequest { name, version }| {
        let ready = context.model_ready(&name, &Selector::parse(&name, &version)?)?;
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
        let message = call.receive(body).await;
        let answered = match submitted(&call, message, &mut notes) {
            Ok((submitted, id)) => submitted.answer().await.map(|answer| {
                notes.ran(answer.timing);
                let data = encode::response(&answer, &id);
                (data, answer.version, answer.reason)
            }),
            Err(error) => Err(error),
        };
        let answered = match answered {
            Ok((data, version, reason)) => call.answer(data).await.map(|mut response| {
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

/// The request in a message, in the queue, and its id.
fn submitted(call: &Call, message: Result<Bytes>, notes: &mut Notes) -> Result<(Submitted, String)> {
    let router = &call.context.router;
    let decoded = message.and_then(|message| decoded(call, message, notes));
    let (request, id) = decoded.inspect_err(|error| router.undecoded(error))?;
    let (version, reason) = router.route(&request, &|name| call.metadata(name))?;
    notes.routed(version.version, reason);
    Ok((version.submit(request, reason)?, id))
}

/// The request in a message, and its id.
fn decoded(call: &Call, message: Bytes, notes: &mut Notes) -> Result<(tensor::Request, String)> {
    let (bytes, memory) = (message.len(), message.as_ptr_range());
    let message: ModelInferRequest = call.decode(message)?;
    // Raw contents are slices of it, and keep it. Of others nothing is left of it.
    let counted = if message.raw_input_contents.is_empty() { &[][..] } else { &[memory] };
    notes.asks(&message.model_name, bytes);
    notes.named(&message.id);
    let timeout = call.timeout()?;
    let id = message.id.clone();
    let mut request = decode::request(message, call.arrived)?;
    read_priority(call.metadata(PRIORITY), &mut request)?;
    count_copies(&mut request.inputs, counted, &call.context.limits).map_err(|refusal| refusal.error)?;
    let from_header = timeout.and_then(|timeout| call.arrived.checked_add(timeout));
    request.deadline = request.deadline.into_iter().chain(from_header).min();
    Ok((request, id))
}
