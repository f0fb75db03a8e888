//! The protocols. Wire formats live only here: decode, call one function, encode.

pub mod admin;
pub mod dialect;
pub(crate) mod grpc_health;
mod infer;
mod metrics;
mod request_log;
mod service;
pub mod transport;

pub use metrics::Read;
pub use request_log::{AccessLog, Lines};
pub use service::Service;
pub use transport::codec_pool::CodecPool;
pub use transport::health_only::refuse_unless_health;
pub use transport::limits::Limits;
pub use transport::memory_budget::Budget;
pub use transport::ports::Ports;
pub use transport::response_body::{Answer, AnswerBody, Unwritten};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use std::sync::Arc;
use tokio::sync::watch;

use crate::{
    batcher::Compute,
    config::ReadyWhen,
    error::{Code, Result},
    router::{Router, Table, Version},
    traffic::{Reason, Selector},
};
use transport::host_paths::without_folders;

/// The server's name in its metadata.
pub const SERVER_NAME: &str = "onnxd";

/// The server's version in its metadata.
pub const SERVER_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The protocol extensions that are implemented; clients look here before they use one.
pub const EXTENSIONS: [&str; 2] = ["binary_tensor_data", "parameters"];

/// The framework in a model's metadata, as Triton calls it.
pub const PLATFORM: &str = "onnxruntime_onnx";

/// Tells which version answered, over HTTP, and as metadata over gRPC.
const MODEL_VERSION: HeaderName = HeaderName::from_static("onnxd-model-version");

/// Tells why it was that version.
const ROUTING_REASON: HeaderName = HeaderName::from_static("onnxd-routing-reason");

/// What every protocol needs to answer.
#[derive(Clone)]
pub struct Context {
    /// Where inference requests go.
    pub router: Arc<Router>,
    /// Where the server is in its life.
    pub lifecycle: watch::Receiver<Lifecycle>,
    /// Models that must serve before the server is ready.
    pub ready_when: ReadyWhen,
    /// What clients may do at most.
    pub limits: Arc<Limits>,
    /// Thread pool that decodes large requests and encodes large answers.
    pub codecs: Arc<CodecPool>,
    /// The threads that run models.
    pub compute: Compute,
    /// Where requests are told of, if anywhere.
    pub access_log: Option<Arc<AccessLog>>,
    /// Where the other ports are.
    pub ports: Arc<Ports>,
}

/// Where the server is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// The models are being loaded for the first time.
    Starting,
    /// Requests are answered.
    Serving,
    /// Requests are still answered, but no new clients should come.
    Draining,
}

impl Context {
    /// Whether new clients should come.
    pub fn is_ready(&self) -> bool {
        self.not_ready().is_none()
    }

    /// Reason why new clients should not come, for people; `None` where they should.
    pub fn not_ready(&self) -> Option<String> {
        match *self.lifecycle.borrow() {
            Lifecycle::Draining => Some("the server is shutting down".into()),
            _ if !self.is_live() => Some("runs that can't be stopped hold every CPU".into()),
            Lifecycle::Starting if self.ready_when != ReadyWhen::Any => {
                Some("the models are being loaded for the first time".into())
            }
            Lifecycle::Starting | Lifecycle::Serving => self.router.table().readiness.not_ready(self.ready_when),
        }
    }

    /// Liveness: false once abandoned runs hold as many CPUs as there are.
    pub fn is_live(&self) -> bool {
        self.compute.abandoned_runs() < self.compute.cpus().max(1)
    }

    /// Whether a request for the model, or for one version of it, would find a version.
    ///
    /// # Errors
    /// There is no such model, version or alias.
    fn model_ready(&self, model: &str, selector: &Selector) -> Result<bool> {
        match self.router.table().shown(model, selector) {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Code::NotFound => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// The version whose metadata is told, and the table that says so.
    fn version(&self, model: &str, selector: &Selector) -> Result<(Arc<Table>, Arc<Version>)> {
        let table = self.router.table();
        let version = table.shown(model, selector)?.clone();
        Ok((table, version))
    }
}

/// Bytes of an error's message at most, which may repeat what the client has sent. Over gRPC it travels in a header, escaped
/// to three times its length at worst, and clients refuse an answer whose headers have more than 8 KiB; and an answer that
/// tells an error is not counted as long as it lies there unread.
const MAX_MESSAGE: usize = 2048;

/// As much of an error's message as is told.
fn shown(message: &str) -> String {
    cut(message, MAX_MESSAGE)
}

/// A text's beginning, which says so where it is not all of it.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    format!("{}...", &text[..text.floor_char_boundary(most)])
}

/// Tells which version answered, and why.
fn tell_version(headers: &mut HeaderMap, version: &Version, reason: Reason) {
    // Digits are a value.
    if let Ok(number) = HeaderValue::from_maybe_shared(version.number.clone()) {
        headers.insert(MODEL_VERSION, number);
    }
    headers.insert(ROUTING_REASON, HeaderValue::from_static(reason.label()));
}

/// What was derived for a version, told as properties in its metadata. Those that are lists are arrays in JSON: the optional
/// inputs, and per output the names of its classes.
fn properties(version: &Version) -> Vec<(String, String)> {
    let (derived, signature) = (&version.derived, &version.signature);
    let mut properties = vec![
        ("batching".into(), derived.batching_text()),
        ("device".into(), without_folders(&derived.device_text())),
        ("instances".into(), derived.instances.to_string()),
        ("intra_op_threads".into(), derived.intra_op_threads.to_string()),
        ("in_place".into(), derived.in_place_text()),
        ("generation".into(), version.generation.to_string()),
    ];
    if derived.isolation.is_some() {
        properties.push(("isolation".into(), derived.isolation_text()));
    }
    properties.extend(derived.graphs_text().map(|text| ("cuda_graphs".into(), without_folders(&text))));
    let array = |names: Vec<&str>| serde_json::Value::from(names).to_string();
    if !signature.optional_inputs.is_empty() {
        let names = signature.optional_inputs.iter().map(|input| &*input.name);
        properties.push(("optional_inputs".into(), array(names.collect())));
    }
    for output in signature.outputs.iter().filter(|output| !output.labels.is_empty()) {
        let labels = output.labels.iter().map(String::as_str);
        properties.push((format!("labels:{}", output.name), array(labels.collect())));
    }
    properties
}
