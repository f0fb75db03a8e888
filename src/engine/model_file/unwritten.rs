//! Operators of ONNX Runtime's CPU provider that may leave their outputs unwritten: a client would get what another run left in
//! that memory.
//!
//! Found by running every operator with zero extents, twice, over memory filled with different bytes (1.31.1): sums over nothing
//! are not written, neither is the last cell state of an LSTM without time steps. Nobody can make such a sum where one side is
//! part of the model and not empty, as weights are; then the other side has as many.

use std::collections::BTreeSet;

use super::onnx::{GraphProto, NodeProto};

/// The operators, each with the inputs of which one that is part of the model makes it safe; without any it is never safe.
const OPERATORS: [(&str, &[usize]); 12] = [
    ("Conv", &[1]),
    ("ConvInteger", &[1]),
    ("DynamicQuantizeLSTM", &[]),
    ("DynamicQuantizeMatMul", &[0, 1]),
    ("FusedConv", &[1]),
    ("LSTM", &[]),
    ("MatMulInteger", &[0, 1]),
    ("MatMulIntegerToFloat", &[0, 1]),
    ("NhwcFusedConv", &[1]),
    ("QGemm", &[0, 3]),
    ("QLinearConv", &[3]),
    ("QLinearMatMul", &[0, 3]),
];

/// The first operator of the graph, and of those inside it, that may leave an output unwritten.
pub(super) fn find(graph: &GraphProto) -> Option<&str> {
    find_among(graph, &BTreeSet::new())
}

fn find_among<'g>(graph: &'g GraphProto, outer: &BTreeSet<&'g str>) -> Option<&'g str> {
    let mut constants = outer.clone();
    let filled = graph.initializers.iter().filter(|tensor| !tensor.extents.contains(&0));
    constants.extend(filled.map(|tensor| tensor.name.as_str()));
    // An initializer that is an input too may be replaced.
    graph.inputs.iter().for_each(|input| _ = constants.remove(input.name.as_str()));
    for node in &graph.nodes {
        if is_unsafe(node, &constants) {
            return Some(&node.operator);
        }
        let graphs = node.attributes.iter().flat_map(|attribute| attribute.graph.iter().chain(&attribute.graphs));
        if let Some(found) = graphs.into_iter().find_map(|inner| find_among(inner, &constants)) {
            return Some(found);
        }
        if is_constant(node, &constants) {
            constants.extend(node.outputs.iter().map(String::as_str));
        }
    }
    None
}

fn is_unsafe(node: &NodeProto, constants: &BTreeSet<&str>) -> bool {
    let operator = OPERATORS.iter().find(|(operator, _)| *operator == node.operator);
    let is_constant = |index: &usize| node.inputs.get(*index).is_some_and(|name| constants.contains(name.as_str()));
    operator.is_some_and(|(_, weights)| !weights.iter().any(is_constant))
}

/// True if a node makes the same of the model alone in every run, and nothing empty: these keep the number of elements, as
/// weights that are unpacked go through them.
fn is_constant(node: &NodeProto, constants: &BTreeSet<&str>) -> bool {
    const KEEP: [&str; 8] =
        ["Cast", "DequantizeLinear", "Identity", "QuantizeLinear", "Reshape", "Squeeze", "Transpose", "Unsqueeze"];
    let mut inputs = node.inputs.iter().filter(|input| !input.is_empty());
    let tensors = || node.attributes.iter().flat_map(|attribute| attribute.tensor.iter().chain(&attribute.tensors));
    match node.operator.as_str() {
        "Constant" => tensors().all(|tensor| !tensor.extents.contains(&0)),
        operator => KEEP.contains(&operator) && inputs.all(|input| constants.contains(input.as_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::onnx::{AttributeProto, TensorProto, ValueInfoProto},
        *,
    };

    fn node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
        let inputs = inputs.iter().map(ToString::to_string).collect();
        NodeProto { operator: operator.into(), inputs, outputs: vec![output.into()], ..NodeProto::default() }
    }

    fn tensor(name: &str, extents: &[i64]) -> TensorProto {
        TensorProto { name: name.into(), extents: extents.into(), ..TensorProto::default() }
    }

    fn graph(nodes: Vec<NodeProto>) -> GraphProto {
        let initializers = vec![tensor("w", &[2, 3, 3, 3]), tensor("empty", &[2, 0, 3, 3]), tensor("given", &[2, 3])];
        let inputs = ["x", "given"].map(|name| ValueInfoProto { name: name.into(), kind: None }).into();
        GraphProto { nodes, initializers, inputs, ..GraphProto::default() }
    }

    #[test]
    fn weights_of_the_model_make_operators_safe() {
        for safe in [
            vec![node("ConvInteger", &["x", "w"], "y")],
            vec![node("MatMulInteger", &["w", "x"], "y")],
            vec![node("DequantizeLinear", &["w", "", "w"], "d"), node("Conv", &["x", "d"], "y")],
            vec![node("Constant", &[], "c"), node("QLinearMatMul", &["x", "", "", "c"], "y")],
            vec![node("MatMul", &["x", "x"], "y")],
        ] {
            assert_eq!(find(&graph(safe)), None);
        }
    }

    #[test]
    fn operators_over_values_of_the_client_are_found() {
        let inside = |node| AttributeProto {
            graph: Some(GraphProto { nodes: vec![node], ..GraphProto::default() }),
            ..AttributeProto::default()
        };
        for (operator, nodes) in [
            ("ConvInteger", vec![node("ConvInteger", &["x", "x"], "y")]),
            ("ConvInteger", vec![node("ConvInteger", &["x", "empty"], "y")]),
            ("MatMulInteger", vec![node("MatMulInteger", &["x", "given"], "y")]),
            ("LSTM", vec![node("LSTM", &["x", "w", "w"], "y")]),
            ("Conv", vec![node("Slice", &["w", "w"], "s"), node("Conv", &["x", "s"], "y")]),
            (
                "QGemm",
                vec![NodeProto {
                    attributes: vec![inside(node("QGemm", &["x", "x"], "y"))],
                    ..node("If", &["x"], "y")
                }],
            ),
        ] {
            assert_eq!(find(&graph(nodes)), Some(operator));
        }
    }
}
