//! Nodes and axes as messages name them and as graphs declare them.

use super::super::onnx::{DimensionProto, NodeProto, ValueInfoProto};

/// The axes that are declared of a tensor.
pub(super) fn axes(info: &ValueInfoProto) -> Option<&[DimensionProto]> {
    Some(&info.kind.as_ref()?.tensor.as_ref()?.shape.as_ref()?.dimensions)
}

/// A node, for people: its operator and its name, or that of its first output.
pub(super) fn shown(node: &NodeProto) -> String {
    let name = if node.name.is_empty() { node.outputs.first().map_or("", String::as_str) } else { &node.name };
    format!("{} '{name}'", node.operator)
}
