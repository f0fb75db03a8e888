//! Takes the operators out of a model that end it with a sequence: ZipMap, and SequenceConstruct.
//!
//! scikit-learn's exporters end a classifier with ZipMap: it makes a sequence of maps, from class to probability, of a plain
//! tensor of probabilities. The protocol carries only tensors, and taking the maps apart costs ten times the run. So the
//! operator becomes an Identity, the output is a tensor [rows, classes] under the same name, and the classes, which are
//! attributes of the operator (ai.onnx.ml, ZipMap), stand in the metadata. A classifier of several outputs ends with a
//! sequence of tensors, one for each. It becomes that many outputs, which are named `NAME_0`, `NAME_1` and so on.

use bytes::{Buf, BufMut};
use prost::{
    Message,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field},
};
use std::collections::BTreeMap;

use super::onnx::{
    DimensionProto, FLOAT, GRAPH_NODE, GRAPH_OUTPUT, GraphProto, MODEL_GRAPH, NodeProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto,
};

/// A model whose outputs are tensors.
pub(super) struct TakenOut {
    pub encoded: Vec<u8>,
    /// The names of the classes of each output that was a sequence of maps.
    pub labels: BTreeMap<String, Vec<String>>,
}

/// The model without the ZipMaps and the sequences that make its outputs; `None` where there are none, or it is not encoded as
/// expected.
pub(super) fn take_out(encoded: &[u8], graph: &GraphProto) -> Option<TakenOut> {
    let is_output = |name: &str| graph.outputs.iter().any(|info| info.name == name);
    let mut taken: BTreeMap<&str, (&NodeProto, Ending)> = BTreeMap::new();
    for node in &graph.nodes {
        if let Some(output) = zip_map_output(node).filter(|output| is_output(output)) {
            taken.insert(output, (node, Ending::Maps(class_labels(node))));
        } else if let Some((output, names)) = sequence(graph, node).filter(|(output, _)| is_output(output)) {
            taken.insert(output, (node, Ending::Tensors(names)));
        }
    }
    if taken.is_empty() {
        return None;
    }
    let rows = rows(graph);
    let rewrite_graph_field = |number, field: &[u8]| match number {
        GRAPH_NODE => {
            let node = NodeProto::decode(field).ok()?;
            let (_, ending) = taken.get(node.outputs.first()?.as_str()).filter(|(taken, _)| **taken == node)?;
            let nodes = match ending {
                Ending::Maps(_) => vec![identity(&node, &node.inputs[..1], &node.outputs[0])],
                Ending::Tensors(names) => {
                    let inputs = node.inputs.chunks(1);
                    inputs.zip(names).map(|(input, output)| identity(&node, input, output)).collect()
                }
            };
            Some(nodes.iter().map(NodeProto::encode_to_vec).collect())
        }
        GRAPH_OUTPUT => {
            let name = ValueInfoProto::decode(field).ok()?.name;
            let infos = match taken.get(name.as_str())? {
                (node, Ending::Maps(labels)) => {
                    let kind = (!labels.is_empty()).then(|| element(graph, &node.inputs[0], MAX_STEPS)).flatten();
                    vec![ValueInfoProto { name, kind: kind.map(|element| matrix(element, rows.clone(), labels.len())) }]
                }
                (_, Ending::Tensors(names)) => {
                    names.iter().map(|name| ValueInfoProto { name: name.clone(), kind: None }).collect()
                }
            };
            Some(infos.iter().map(ValueInfoProto::encode_to_vec).collect())
        }
        _ => None,
    };
    let encoded = rewrite(encoded, |number, field| {
        (number == MODEL_GRAPH).then(|| Some(vec![rewrite(field, rewrite_graph_field)?]))?
    })?;
    let labels = taken.into_iter().filter_map(|(output, (_, ending))| match ending {
        Ending::Maps(labels) if !labels.is_empty() => Some((output.to_owned(), labels)),
        Ending::Maps(_) | Ending::Tensors(_) => None,
    });
    Some(TakenOut { encoded, labels: labels.collect() })
}

/// Form of an output that is no tensor.
enum Ending {
    /// Maps with these classes; none where a matrix would have more than two axes (several outputs of one classifier).
    Maps(Vec<String>),
    /// A sequence of tensors, which become outputs of these names.
    Tensors(Vec<String>),
}

/// The output of a node that makes a sequence of tensors for the graph's end alone, and names for the tensors.
fn sequence<'n>(graph: &GraphProto, node: &'n NodeProto) -> Option<(&'n str, Vec<String>)> {
    let is_sequence = node.operator == "SequenceConstruct" && matches!(&*node.domain, "" | "ai.onnx");
    let output = node.outputs.first().filter(|_| is_sequence && !node.inputs.is_empty())?;
    let names: Vec<String> = (0..node.inputs.len()).map(|index| format!("{output}_{index}")).collect();
    let uses = |name: &String| {
        let mut values = graph.nodes.iter().flat_map(|node| node.inputs.iter().chain(&node.outputs));
        let mut infos = graph.inputs.iter().chain(&graph.outputs);
        values.any(|value| value == name) || infos.any(|info| info.name == *name)
    };
    let is_consumed = graph.nodes.iter().any(|node| node.inputs.contains(output) || has_graphs(node));
    (!is_consumed && !names.iter().any(uses)).then_some((output, names))
}

/// True if a node has graphs inside, which may use any value of the outer one.
fn has_graphs(node: &NodeProto) -> bool {
    node.attributes.iter().any(|attribute| attribute.graph.is_some() || !attribute.graphs.is_empty())
}

/// Nodes that are followed back to find out a type.
const MAX_STEPS: usize = 256;

/// `TensorProto.DataType.DOUBLE`.
const DOUBLE: i32 = 11;

/// The element type of a value, FLOAT or DOUBLE, as far as the nodes before it show; ONNX Runtime finds out what is `None` here.
fn element(graph: &GraphProto, name: &str, steps: usize) -> Option<i32> {
    if let Some(tensor) = graph.initializers.iter().find(|tensor| tensor.name == name) {
        return Some(tensor.element).filter(is_float);
    }
    if let Some(info) = graph.inputs.iter().find(|info| info.name == name) {
        return info.kind.as_ref()?.tensor.as_ref().map(|tensor| tensor.element).filter(is_float);
    }
    let node = graph.nodes.iter().find(|node| node.outputs.iter().any(|output| output == name))?;
    let rest = steps.checked_sub(1)?;
    let like = |index: usize| element(graph, node.inputs.get(index)?, rest);
    match (&*node.domain, &*node.operator) {
        ("" | "ai.onnx", "Cast") => {
            let to = node.attributes.iter().find(|attribute| attribute.name == "to")?.integer;
            i32::try_from(to).ok().filter(is_float)
        }
        ("" | "ai.onnx", "Where" | "OneHot") => like(node.inputs.len().saturating_sub(1)),
        ("" | "ai.onnx", "If" | "Loop" | "Scan" | "Constant" | "ConstantOfShape" | "DequantizeLinear") => None,
        ("" | "ai.onnx", _) => like(0),
        // All other operators of `ai.onnx.ml` give FLOAT for any input.
        ("ai.onnx.ml", "ArrayFeatureExtractor" | "Imputer" | "TreeEnsemble") => like(0),
        ("ai.onnx.ml", "LabelEncoder" | "CategoryMapper" | "DictVectorizer") => None,
        ("ai.onnx.ml", _) => Some(FLOAT),
        _ => None,
    }
}

fn is_float(element: &i32) -> bool {
    matches!(*element, FLOAT | DOUBLE)
}

/// The output of a node, if the node is a ZipMap.
fn zip_map_output(node: &NodeProto) -> Option<&str> {
    let is_zip_map = node.operator == "ZipMap" && node.domain == "ai.onnx.ml" && !node.inputs.is_empty();
    node.outputs.first().filter(|_| is_zip_map).map(String::as_str)
}

fn class_labels(node: &NodeProto) -> Vec<String> {
    let attribute = |name: &str| node.attributes.iter().find(|attribute| attribute.name == name);
    let strings = attribute("classlabels_strings").into_iter().flat_map(|attribute| &attribute.strings);
    let integers = attribute("classlabels_int64s").into_iter().flat_map(|attribute| &attribute.integers);
    let strings = strings.map(|label| String::from_utf8_lossy(label).into_owned());
    strings.chain(integers.map(i64::to_string)).collect()
}

/// Axis 0 of the model's first input, which is what the probabilities have rows for.
fn rows(graph: &GraphProto) -> DimensionProto {
    let is_weight = |info: &&ValueInfoProto| graph.initializers.iter().any(|tensor| tensor.name == info.name);
    let first = graph.inputs.iter().find(|info| !is_weight(info));
    let shape = first.and_then(|info| info.kind.as_ref()?.tensor.as_ref()?.shape.as_ref());
    shape.and_then(|shape| shape.dimensions.first()).cloned().unwrap_or_default()
}

fn identity(node: &NodeProto, input: &[String], output: &str) -> NodeProto {
    // Nodes may share no name.
    let name = if node.inputs.len() == 1 { node.name.clone() } else { String::new() };
    let (inputs, outputs) = (input.to_vec(), vec![output.to_owned()]);
    NodeProto { inputs, outputs, name, operator: "Identity".into(), ..NodeProto::default() }
}

fn matrix(element: i32, rows: DimensionProto, classes: usize) -> TypeProto {
    let classes = DimensionProto { extent: i64::try_from(classes).ok(), name: None };
    let shape = Some(TensorShapeProto { dimensions: vec![rows, classes] });
    TypeProto { tensor: Some(TensorTypeProto { element, shape }) }
}

/// A message in which fields of messages and strings are replaced by others of the same number, as `change` says; all else stands
/// as it stood, what is unknown here included. `None` where it is no message.
fn rewrite(message: &[u8], change: impl Fn(u32, &[u8]) -> Option<Vec<Vec<u8>>>) -> Option<Vec<u8>> {
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
                for field in changed {
                    encode_key(number, wire_type, &mut rewritten);
                    encode_varint(field.len() as u64, &mut rewritten);
                    rewritten.put_slice(&field);
                }
                continue;
            }
        } else {
            skip_field(wire_type, number, &mut rest, DecodeContext::default()).ok()?;
        }
        rewritten.put_slice(&field[..field.len() - rest.len()]);
    }
    Some(rewritten)
}
