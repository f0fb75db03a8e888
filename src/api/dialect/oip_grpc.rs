//! The Open Inference Protocol, health checking and reflection over gRPC.

mod cost;
mod decode;
mod encode;
pub(in crate::api) mod payload;
mod service;

use axum::{extract::Request, middleware};
use futures_util::future::Either;
use hyper::body::Incoming;
use std::{net::SocketAddr, sync::Arc};
use tonic::{Status, codec::CompressionEncoding, service::Routes};

use crate::api::transport::grpc::unary::Call;
use crate::api::{
    Context, Unwritten, shown,
    transport::{response_body::Answer, wrong_port},
};
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
pub(in crate::api) const INFERENCE_SERVICE: &str = "inference.GRPCInferenceService";

/// The request in a message, for the fuzz targets; `None` where it is no message.
#[cfg(any(fuzzing, test))]
pub(crate) fn decode_for_fuzzing(message: bytes::Bytes) -> Option<crate::error::Result<crate::tensor::Request>> {
    let message = <proto::ModelInferRequest as prost::Message>::decode(message).ok()?;
    Some(decode::request(message, std::time::Instant::now()))
}

/// Whether a method is called that has one message and one answer.
pub(in crate::api) fn is_unary(request: &Request<Incoming>) -> bool {
    method(request.uri().path()).is_some()
}

/// The method of the inference service that a path names.
fn method(path: &str) -> Option<&str> {
    path.strip_prefix('/')?.strip_prefix(INFERENCE_SERVICE)?.strip_prefix('/')
}

/// The response to a call that is refused before it comes to its method.
pub(in crate::api) fn refused(error: Error) -> Answer {
    crate::api::transport::grpc::unary::refused(error)
}

/// True if a path names a gRPC method, of this server or not.
pub(in crate::api) fn names_method(path: &str) -> bool {
    path.strip_prefix('/').and_then(|path| path.split_once('/')).is_some_and(|(service, _)| service.contains('.'))
}

/// True if a path names a method that checks health or reads metadata.
pub(in crate::api) fn is_health(path: &str) -> bool {
    const METHODS: [&str; 5] = ["ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata"];
    path == "/grpc.health.v1.Health/Check" || method(path).is_some_and(|method| METHODS.contains(&method))
}

/// Answers a call of a client that is unary.
pub(in crate::api) fn answer(
    context: &Arc<Context>,
    unwritten: &Arc<Unwritten>,
    client: SocketAddr,
    request: Request<Incoming>,
) -> impl Future<Output = Answer> + Send + use<> {
    if method(request.uri().path()) == Some("ModelInfer") {
        return Either::Left(service::model_infer(context, unwritten, client, request));
    }
    let path = request.uri().path().to_owned();
    let (call, body) = Call::new(context, unwritten, request);
    Either::Right(Box::pin(async move {
        match method(&path).unwrap_or_default() {
            "ServerLive" => service::server_live(call, body).await,
            "ServerReady" => service::server_ready(call, body).await,
            "ModelReady" => service::model_ready(call, body).await,
            "ServerMetadata" => service::server_metadata(call, body).await,
            "ModelMetadata" => service::model_metadata(call, body).await,
            _ => unknown(&path),
        }
    }))
}

/// Every other service.
///
/// # Panics
/// Where the protocol definitions that the build encoded can't be decoded: a defect of the build.
pub(in crate::api) fn routes(context: Context) -> axum::Router {
    let ports = context.ports.clone();
    streaming(context, proto::DESCRIPTORS)
        .fallback(async move |request: Request| wrong_port::nothing_there(&ports, "grpc", &request))
}

/// The services with methods that stream, which tonic serves; reflection tells these descriptors.
pub(in crate::api) fn streaming(context: Context, descriptors: &'static [u8]) -> axum::Router {
    let reflection =
        |builder: tonic_reflection::server::Builder<'static>| builder.register_encoded_file_descriptor_set(descriptors);
    let v1 = reflection(tonic_reflection::server::Builder::configure()).build_v1();
    let v1alpha = reflection(tonic_reflection::server::Builder::configure()).build_v1alpha();
    let health = HealthServer::new(crate::api::grpc_health::Health::new(context.clone()));
    macro_rules! unpacking {
        ($service:expr) => {
            [CompressionEncoding::Gzip, CompressionEncoding::Deflate, CompressionEncoding::Zstd].into_iter().fold(
                $service.max_decoding_message_size(crate::api::transport::grpc::small_body::MOST),
                |service, encoding| service.accept_compressed(encoding),
            )
        };
    }
    let routes = Routes::new(unpacking!(health))
        .add_service(unpacking!(v1.expect("the build's own descriptors")))
        .add_service(unpacking!(v1alpha.expect("the build's own descriptors")));
    routes
        .into_axum_router()
        .reset_fallback()
        .layer(middleware::map_request_with_state(context, crate::api::transport::grpc::small_body::read))
}

/// A method that there is not.
pub(in crate::api) fn unknown(path: &str) -> Answer {
    crate::api::transport::grpc::unary::refused(Error::new(
        Code::Unimplemented,
        format!("there is no method {path}; reflection lists those that there are"),
    ))
}

/// The status of an error.
pub(in crate::api) fn status(error: Error) -> Status {
    Status::new(tonic::Code::from_i32(error.code().grpc()), shown(error.message()))
}
