//! Headers of the server's protocol that `onnxd infer` sends and reads.

use http::HeaderName;

/// Length of the JSON in front of the binary tensors.
pub(super) const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Routing key: requests with one key go to one version.
pub(super) const ROUTING_KEY: HeaderName = HeaderName::from_static("onnxd-routing-key");

/// Reason why a version answers.
pub(super) const ROUTING_REASON: HeaderName = HeaderName::from_static("onnxd-routing-reason");
