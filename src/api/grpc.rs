//! The Open Inference Protocol, health checking and reflection over gRPC.

mod decode;
mod encode;
mod health;
mod service;

use tonic::{Status, service::Routes};

use super::{Context, MAX_REQUEST_BYTES};
use crate::error::Error;
use proto::{grpc_inference_service_server::GrpcInferenceServiceServer, health::health_server::HealthServer};

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
    let reflection = |builder: tonic_reflection::server::Builder<'static>| {
        builder.register_encoded_file_descriptor_set(proto::DESCRIPTORS)
    };
    let v1 = reflection(tonic_reflection::server::Builder::configure()).build_v1();
    let v1alpha = reflection(tonic_reflection::server::Builder::configure()).build_v1alpha();
    let inference = GrpcInferenceServiceServer::new(service::Service::new(context.clone()))
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(usize::MAX);
    Routes::new(inference)
        .add_service(HealthServer::new(health::Health::new(context)))
        .add_service(v1.expect("the build's own descriptors"))
        .add_service(v1alpha.expect("the build's own descriptors"))
        .into_axum_router()
}

/// Bytes of a status message at most. It travels in a header, escaped to three times its length at worst, and clients refuse
/// an answer whose headers have more than 8 KiB.
const MAX_MESSAGE: usize = 2048;

/// The status of an error.
fn status(error: Error) -> Status {
    let message = error.message();
    let shown = &message[..message.floor_char_boundary(MAX_MESSAGE)];
    let ellipsis = if shown.len() < message.len() { "..." } else { "" };
    Status::new(tonic::Code::from_i32(error.code().grpc()), format!("{shown}{ellipsis}"))
}
