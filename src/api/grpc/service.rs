//! The methods of the inference service: receive, call, answer.

use axum::http::Request;
use bytes::Bytes;
use hyper::body::Incoming;
use std::sync::Arc;

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
        Context, EXTENSIONS, SERVER_NAME, SERVER_VERSION, Unwritten, answer::Answer, body::count_copies, tell_version,
    },
    error::Result,
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
    request: Request<Incoming>,
) -> impl Future<Output = Answer> + Send + use<> {
    let (mut call, body) = Call::new(context, unwritten, request);
    async move {
        let message = call.receive(body).await;
        let answered = match submitted(&call, message) {
            Ok((submitted, id)) => submitted.answer().await.map(|answer| (encode::response(&answer, &id), answer)),
            Err(error) => Err(error),
        };
        match answered {
            Ok((data, answer)) => {
                let mut response = call.answer(data).await;
                tell_version(response.headers_mut(), &answer);
                response
            }
            Err(error) => refused(error),
        }
    }
}

/// The request in a message, in the queue, and its id.
fn submitted(call: &Call, message: Result<Bytes>) -> Result<(Submitted, String)> {
    let router = &call.context.router;
    let decoded = message.and_then(|message| decoded(call, message));
    let (request, id) = decoded.inspect_err(|error| router.undecoded(error))?;
    Ok((router.submit(request, &|name| call.metadata(name))?, id))
}

/// The request in a message, and its id.
fn decoded(call: &Call, message: Bytes) -> Result<(tensor::Request, String)> {
    let message: ModelInferRequest = call.decode(message)?;
    let timeout = call.timeout()?;
    let id = message.id.clone();
    let slices: Vec<_> = message.raw_input_contents.iter().map(|data| data.as_ptr_range()).collect();
    let mut request = decode::request(message, call.arrived)?;
    count_copies(&mut request.inputs, &slices, &call.context.limits).map_err(|refusal| refusal.error)?;
    let from_header = timeout.and_then(|timeout| call.arrived.checked_add(timeout));
    request.deadline = request.deadline.into_iter().chain(from_header).min();
    Ok((request, id))
}
