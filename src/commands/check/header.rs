//! Header fields of a model file that ONNX Runtime does not report.

use prost::Message;
use std::io::Read;

use crate::host::files::ModelPath;

/// The small fields of onnx.proto's ModelProto.
#[derive(Message)]
pub(super) struct ModelHeader {
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    #[prost(string, tag = "2")]
    pub producer_name: String,
    #[prost(string, tag = "3")]
    pub producer_version: String,
    #[prost(message, repeated, tag = "8")]
    pub operator_sets: Vec<OperatorSet>,
}

#[derive(Message)]
pub(super) struct OperatorSet {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// Reads the header; `None` if the file is no model.
pub(super) fn read(path: &ModelPath) -> Option<ModelHeader> {
    let mut contents = Vec::new();
    path.roots().open(path).ok()?.0.read_to_end(&mut contents).ok()?;
    ModelHeader::decode(contents.as_slice()).ok()
}

impl ModelHeader {
    /// The program that made the model.
    pub(super) fn producer(&self) -> Option<String> {
        let producer = format!("{} {}", self.producer_name, self.producer_version);
        Some(producer.trim().to_owned()).filter(|producer| !producer.is_empty())
    }
}

impl OperatorSet {
    /// The domain; ONNX names the empty domain `ai.onnx`.
    pub(super) fn domain(&self) -> &str {
        if self.domain.is_empty() { "ai.onnx" } else { &self.domain }
    }
}
