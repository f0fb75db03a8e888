//! Health and metadata of the Open Inference Protocol over gRPC.

use axum::http::Request;
use hyper::body::Incoming;
use std::sync::Arc;

use super::properties::{EXTENSIONS, PLATFORM, SERVER_NAME, SERVER_VERSION, properties};
use crate::{
    api::{
        context::Context,
        proto::{
            ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse, ServerLiveRequest,
            ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
            model_metadata_response::TensorMetadata,
        },
        transport::{
            HttpResponse, PendingResponses,
            grpc::{method, unary, unknown_method},
        },
    },
    router::{Table, Version},
    tensor::TensorSpec,
    traffic::Selector,
};

/// Answers a unary call that is no inference, over a connection that has `pending` responses.
pub(in crate::api) async fn answer(
    context: Arc<Context>,
    pending: Arc<PendingResponses>,
    request: Request<Incoming>,
) -> HttpResponse {
    let limits = context.limits.clone();
    match method(request.uri().path()).unwrap_or_default() {
        "ServerLive" => {
            let answer = |_: ServerLiveRequest| Ok(ServerLiveResponse { live: context.is_live() });
            unary(limits, pending, request, answer).await
        }
        "ServerReady" => {
            let answer = |_: ServerReadyRequest| Ok(ServerReadyResponse { ready: context.is_ready() });
            unary(limits, pending, request, answer).await
        }
        "ModelReady" => {
            let answer = |ModelReadyRequest { name, version }| {
                // As Triton does: clients wait in a loop for a model that is not there yet.
                let ready = context.model_ready(&name, &Selector::parse(&name, &version)?).unwrap_or(false);
                Ok(ModelReadyResponse { ready })
            };
            unary(limits, pending, request, answer).await
        }
        "ServerMetadata" => {
            let answer = |_: ServerMetadataRequest| {
                Ok(ServerMetadataResponse {
                    name: SERVER_NAME.into(),
                    version: SERVER_VERSION.into(),
                    extensions: EXTENSIONS.map(String::from).into(),
                })
            };
            unary(limits, pending, request, answer).await
        }
        "ModelMetadata" => {
            let answer = |ModelMetadataRequest { name, version }| {
                let (table, version) = context.version(&name, &Selector::parse(&name, &version)?)?;
                Ok(metadata(&table, &version))
            };
            unary(limits, pending, request, answer).await
        }
        _ => unknown_method(request.uri().path()),
    }
}

/// The metadata of a version.
fn metadata(table: &Table, version: &Version) -> ModelMetadataResponse {
    let versions =
        table.models.get(&*version.model).map(|model| model.ready().map(|ready| ready.version.to_string()).collect());
    ModelMetadataResponse {
        name: version.model.to_string(),
        versions: versions.unwrap_or_default(),
        platform: PLATFORM.into(),
        inputs: version.signature.all_inputs().map(tensor_metadata).collect(),
        outputs: version.signature.outputs.iter().map(tensor_metadata).collect(),
        properties: properties(version).into_iter().collect(),
    }
}

fn tensor_metadata(spec: &TensorSpec) -> TensorMetadata {
    TensorMetadata { name: spec.name.to_string(), datatype: spec.datatype.name().into(), shape: spec.wire_shape() }
}
