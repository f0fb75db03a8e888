//! The server's name and abilities, and the properties of a version, as metadata has them.

use super::host_paths::without_folders;
use crate::router::Version;

/// The server's name in its metadata.
pub(super) const SERVER_NAME: &str = "onnxd";

/// The server's version in its metadata.
pub const SERVER_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The protocol extensions that are implemented; clients look here before they use one.
pub(super) const EXTENSIONS: [&str; 2] = ["binary_tensor_data", "parameters"];

/// The framework in a model's metadata, as Triton calls it.
pub(super) const PLATFORM: &str = "onnxruntime_onnx";

/// The settings that were derived for a version. Those that are lists are arrays in JSON: the optional inputs, and per output
/// the names of its classes.
pub(super) fn properties(version: &Version) -> Vec<(String, String)> {
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
