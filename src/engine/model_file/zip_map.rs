//! Takes the operator ZipMap out of a model.
//!
//! scikit-learn's exporters end a classifier with it: it makes a sequence of maps, from class to probability, of a plain
//! tensor of probabilities. The protocol carries only tensors, and taking the maps apart costs ten times the run. So the
//! operator becomes an Identity, the output is a tensor FP32 [rows, classes] under the same name, and the classes, which are
//! attributes of the operator (ai.onnx.ml, ZipMap), are told in the metadata.

use bytes::{Buf, BufMut};
use prost::{
    Message,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field},
};
use std::collections::BTreeMap;

use super::onnx::{
    Dimension, FLOAT, GRAPH_NODE, GRAPH_OUTPUT, Graph, MODEL_GRAPH, Node, TensorShape, TensorType, Type, ValueInfo,
};

/// A model without ZipMap.
pub(super) struct TakenOut {
    pub encoded: Vec<u8>,
    /// The names of the classes of each output that was a sequence of maps.
    pub labels: BTreeMap<String, Vec<String>>,
}

/// The model without the ZipMaps that make its outputs; `None` where there are none, or it is not encoded as expected.
pub(super) fn take_out(encoded: &[u8], graph: &Graph) -> Option<TakenOut> {
    let labels: BTreeMap<String, Vec<String>> = graph
        .nodes
        .iter()
        .filter_map(|node| zip_map_output(node).map(|output| (output.to_owned(), class_labels(node))))
        .filter(|(output, _)| graph.outputs.iter().any(|info| info.name == *output))
        .collect();
    if labels.is_empty() {
        return None;
    }
    let rows = rows(graph);
    let rewrite_graph_field = |number, field: &[u8]| match number {
        GRAPH_NODE => {
            let node = Node::decode(field).ok()?;
            let output = zip_map_output(&node).filter(|output| labels.contains_key(*output))?;
            Some(identity(&node, output).encode_to_vec())
        }
        GRAPH_OUTPUT => {
            let name = ValueInfo::decode(field).ok()?.name;
            let classes = labels.get(&name)?.len();
            Some(probabilities(name, rows.clone(), classes).encode_to_vec())
        }
        _ => None,
    };
    let encoded =
        rewrite(encoded, |number, field| (number == MODEL_GRAPH).then(|| rewrite(field, rewrite_graph_field))?)?;
    Some(TakenOut { encoded, labels })
}

/// The output of a node, if the node is a ZipMap.
fn zip_map_output(node: &Node) -> Option<&str> {
    let is_zip_map = node.operator == "ZipMap" && node.domain == "ai.onnx.ml";
    node.outputs.first().filter(|_| is_zip_map).map(String::as_str)
}

fn class_labels(node: &Node) -> Vec<String> {
    let attribute = |name: &str| node.attributes.iter().find(|attribute| attribute.name == name);
    let strings = attribute("classlabels_strings").into_iter().flat_map(|attribute| &attribute.strings);
    let integers = attribute("classlabels_int64s").into_iter().flat_map(|attribute| &attribute.integers);
    let strings = strings.map(|label| String::from_utf8_lossy(label).into_owned());
    strings.chain(integers.map(i64::to_string)).collect()
}

/// Axis 0 of the model's first input, which is what the probabilities have rows for.
fn rows(graph: &Graph) -> Dimension {
    let is_weight = |info: &&ValueInfo| graph.initializers.iter().any(|tensor| tensor.name == info.name);
    let first = graph.inputs.iter().find(|info| !is_weight(info));
    let shape = first.and_then(|info| info.kind.as_ref()?.tensor.as_ref()?.shape.as_ref());
    shape.and_then(|shape| shape.dimensions.first()).cloned().unwrap_or_default()
}

fn identity(node: &Node, output: &str) -> Node {
    Node {
        inputs: node.inputs.clone(),
        outputs: vec![output.to_owned()],
        name: node.name.clone(),
        operator: "Identity".into(),
        ..Node::default()
    }
}

fn probabilities(name: String, rows: Dimension, classes: usize) -> ValueInfo {
    let classes = Dimension { extent: i64::try_from(classes).ok(), name: None };
    let shape = Some(TensorShape { dimensions: vec![rows, classes] });
    ValueInfo { name, kind: Some(Type { tensor: Some(TensorType { element: FLOAT, shape }) }) }
}

/// A message in which some fields of messages and strings have other contents, as `change` says by their number; all else
/// stands as it stood, what is unknown here included. `None` where it is no message.
fn rewrite(message: &[u8], change: impl Fn(u32, &[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let mut rewritten = Vec::with_capacity(message.len());
    let mut rest = message;
    while rest.has_remaining() {
        let field = rest;
        let (number, wire_type) = decode_key(&mut rest).ok()?;
        if wire_type == WireType::LengthDelimited {
            let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
            let (contents, behind) = rest.split_at_checked(length)?;
            rest = behind;
            if let Some(changed) = change(number, contents) {
                encode_key(number, wire_type, &mut rewritten);
                encode_varint(changed.len() as u64, &mut rewritten);
                rewritten.put_slice(&changed);
                continue;
            }
        } else {
            skip_field(wire_type, number, &mut rest, DecodeContext::default()).ok()?;
        }
        rewritten.put_slice(&field[..field.len() - rest.len()]);
    }
    Some(rewritten)
}
