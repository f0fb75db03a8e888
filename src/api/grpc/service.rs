//! The methods of the inference service: receive, call, answer.

use axum::{
    extract::{Request, State},
    response::Response,
};
use std::time::Instant;

use super::{
    decode, encode,
    proto::{
        ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelReadyRequest, ModelReadyResponse,
        ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest,
        ServerReadyResponse,
    },
    unary::Call,
};
use crate::{
    api::{Context, EXTENSIONS, SERVER_NAME, SERVER_VERSION, body::count_copies, parse_version},
    error::Result,
};

pub(super) async fn server_live(State(context): State<Context>, request: Request) -> Response {
    let (call, request) = Call::receive::<ServerLiveRequest>(&context, request).await;
    call.answer(request.map(|_| ServerLiveResponse { live: true })).await
}

pub(super) async fn server_ready(State(context): State<Context>, request: Request) -> Response {
    let (call, request) = Call::receive::<ServerReadyRequest>(&context, request).await;
    call.answer(request.map(|_| ServerReadyResponse { ready: context.is_ready() })).await
}

pub(super) async fn model_ready(State(context): State<Context>, request: Request) -> Response {
    let (call, request) = Call::receive::<ModelReadyRequest>(&context, request).await;
    let ready = request
        .and_then(|ModelReadyRequest { name, version }| context.model_ready(&name, parse_version(&name, &version)?));
    call.answer(ready.map(|ready| ModelReadyResponse { ready })).await
}

pub(super) async fn server_metadata(State(context): State<Context>, request: Request) -> Response {
    let (call, request) = Call::receive::<ServerMetadataRequest>(&context, request).await;
    let metadata = |_| ServerMetadataResponse {
        name: SERVER_NAME.into(),
        version: SERVER_VERSION.into(),
        extensions: EXTENSIONS.map(String::from).into(),
    };
    call.answer(request.map(metadata)).await
}

pub(super) async fn model_metadata(State(context): State<Context>, request: Request) -> Response {
    let (call, request) = Call::receive::<ModelMetadataRequest>(&context, request).await;
    let metadata = request.and_then(|ModelMetadataRequest { name, version }| {
        let (table, version) = context.version(&name, parse_version(&name, &version)?)?;
        Ok(encode::metadata(&table, &version))
    });
    call.answer(metadata).await
}

pub(super) async fn model_infer(State(context): State<Context>, request: Request) -> Response {
    let (call, request) = Call::receive::<ModelInferRequest>(&context, request).await;
    let answered = infer(&context, &call, request).await;
    call.answer(answered).await
}

/// One inference: decode, call, encode.
async fn infer(context: &Context, call: &Call, request: Result<ModelInferRequest>) -> Result<ModelInferResponse> {
    let decoded = request.and_then(|message| {
        let timeout = call.timeout()?;
        let id = message.id.clone();
        let slices: Vec<_> = message.raw_input_contents.iter().map(|data| data.as_ptr_range()).collect();
        let mut request = decode::request(message, Instant::now())?;
        count_copies(&mut request.inputs, &slices, &context.limits).map_err(|refusal| refusal.error)?;
        let from_header = timeout.and_then(|timeout| call.arrived.checked_add(timeout));
        request.deadline = request.deadline.into_iter().chain(from_header).min();
        Ok((request, id))
    });
    let (request, id) = decoded.inspect_err(|error| context.router.undecoded(error))?;
    let answer = context.router.infer(request).await?;
    Ok(encode::response(answer, id))
}
