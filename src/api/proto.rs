//! The messages, services and clients that the protocol definitions generate, and the names of the services.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated")]

tonic::include_proto!("inference");

/// Health checking.
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}

/// The admin API.
pub mod admin {
    tonic::include_proto!("onnxd.admin.v1");

    /// The protocol definitions of the admin port, encoded, for reflection and for the description of the HTTP API.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/admin_descriptors.bin"));

    /// The service's name.
    pub(crate) const SERVICE: &str = "onnxd.admin.v1.AdminService";
}

/// The protocol definitions of the gRPC port, encoded, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The inference service's name.
pub(crate) const INFERENCE_SERVICE: &str = "inference.GRPCInferenceService";
