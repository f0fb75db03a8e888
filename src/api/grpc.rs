//! The Open Inference Protocol, health checking and reflection over gRPC.

mod cost;
mod decode;
mod eager;
mod encode;
mod health;
mod service;
mod unary;

use axum::{extract::Request, middleware, response::Response, routing::post};
use tonic::{Status, codec::CompressionEncoding, service::Routes};

use super::{Context, shown};
use crate::error::{Code, Error};
use proto::health::health_server::HealthServer;

/// The messages, services and clients that the protocol definitions generate.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated")]
pub mod proto {
    tonic::include_proto!("inference");

    /// Health checking.
    pub mod health {
        tonic::include_proto!("grpc.health.v1");
    }

    /// The protocol definitions, encoded, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

/// The name under which the inference service's health is told.
const INFERENCE_SERVICE: &str = "inference.GRPCInferenceService";

/// The request in a message, for the fuzz targets; `None` where it is no message.
#[cfg(any(fuzzing, test))]
pub(crate) fn decode_for_fuzzing(message: bytes::Bytes) -> Option<crate::error::Result<crate::tensor::Request>> {
    let message = <proto::ModelInferRequest as prost::Message>::decode(message).ok()?;
    Some(decode::request(message, std::time::Instant::now()))
}

/// Every gRPC service, as one HTTP service.
///
/// # Panics
/// Where the protocol definitions that the build encoded can't be decoded: a defect of the build.
pub fn routes(context: Context) -> axum::Router {
    let method = |name: &str| format!("/{INFERENCE_SERVICE}/{name}");
    axum::Router::new()
        .route(&method("ServerLive"), post(service::server_live))
        .route(&method("ServerReady"), post(service::server_ready))
        .route(&method("ModelReady"), post(service::model_ready))
        .route(&method("ServerMetadata"), post(service::server_metadata))
        .route(&method("ModelMetadata"), post(service::model_metadata))
        .route(&method("ModelInfer"), post(service::model_infer))
        .with_state(context.clone())
        .merge(streaming(context))
        .fallback(unknown)
}

/// The services with methods that stream, which tonic serves.
fn streaming(context: Context) -> axum::Router {
    let reflection = |builder: tonic_reflection::server::Builder<'static>| {
        builder.register_encoded_file_descriptor_set(proto::DESCRIPTORS)
    };
    let v1 = reflection(tonic_reflection::server::Builder::configure()).build_v1();
    let v1alpha = reflection(tonic_reflection::server::Builder::configure()).build_v1alpha();
    let health = HealthServer::new(health::Health::new(context.clone()));
    macro_rules! unpacking {
        ($service:expr) => {
            [CompressionEncoding::Gzip, CompressionEncoding::Deflate, CompressionEncoding::Zstd]
                .into_iter()
                .fold($service.max_decoding_message_size(eager::MOST), |service, encoding| {
                    service.accept_compressed(encoding)
                })
        };
    }
    let routes = Routes::new(unpacking!(health))
        .add_service(unpacking!(v1.expect("the build's own descriptors")))
        .add_service(unpacking!(v1alpha.expect("the build's own descriptors")));
    routes.into_axum_router().layer(middleware::map_request_with_state(context, eager::read))
}

/// A method that there is not.
async fn unknown(request: Request) -> Response {
    if let Some(refused) = unary::not_grpc(request.headers()) {
        return refused;
    }
    let path = request.uri().path();
    unary::refused(Error::new(
        Code::Unimplemented,
        format!("there is no method {path}; reflection lists those that there are"),
    ))
}

/// The status of an error.
fn status(error: Error) -> Status {
    Status::new(tonic::Code::from_i32(error.code().grpc()), shown(error.message()))
}
