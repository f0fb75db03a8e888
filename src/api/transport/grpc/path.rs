//! Paths of gRPC methods.

use super::status::refused;
use crate::{
    api::{proto::INFERENCE_SERVICE, transport::response_body::HttpResponse},
    error::{Code, Error},
};

/// The method of the inference service that a path names.
pub(in crate::api) fn method(path: &str) -> Option<&str> {
    path.strip_prefix('/')?.strip_prefix(INFERENCE_SERVICE)?.strip_prefix('/')
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

/// The response to a call of a method that there is not.
pub(in crate::api) fn unknown_method(path: &str) -> HttpResponse {
    refused(Error::new(
        Code::Unimplemented,
        format!("there is no method {path}; reflection lists those that there are"),
    ))
}
