//! Check whether a run costs the same whatever values a request holds, as far as the graph shows.

use super::onnx::{GraphProto, NodeProto};

/// Operators that make as much as an input says: the operator, and the first of its inputs that say so (ONNX 1.23).
const SHAPE_INPUTS: [(&str, usize); 20] = [
    ("AffineGrid", 1),
    ("BlackmanWindow", 0),
    ("CenterCropPad", 1),
    ("Col2Im", 1),
    ("ConstantOfShape", 0),
    ("DFT", 1),
    ("Expand", 1),
    ("HammingWindow", 0),
    ("HannWindow", 0),
    ("MaxUnpool", 2),
    ("MelWeightMatrix", 0),
    // Boxes are held against each other until enough are chosen.
    ("NonMaxSuppression", 0),
    ("OneHot", 1),
    ("Pad", 1),
    ("Range", 0),
    ("Resize", 1),
    // Samples of each region, by its size, unless the model says how many.
    ("RoiAlign", 1),
    ("STFT", 1),
    ("Tile", 1),
    ("Upsample", 1),
];

/// Indices of a node's inputs whose elements say how much it makes.
pub(super) fn shape_inputs(node: &NodeProto) -> Vec<usize> {
    let reads_shapes = SHAPE_INPUTS.iter().find(|(operator, _)| *operator == node.operator);
    reads_shapes.map_or_else(Vec::new, |(_, first)| (*first..node.inputs.len()).collect())
}

/// The domains whose operators are known here.
const KNOWN: [&str; 3] = ["", "ai.onnx", "ai.onnx.ml"];

/// The first operator whose cost values may decide: loops and what holds a graph, what makes as much as an input says (unless
/// the input is part of the model), and operators that are not known here.
pub(super) fn depends_on_values(graph: &GraphProto) -> Option<&str> {
    let depends = |node: &&NodeProto| {
        let has_graph =
            node.attributes.iter().any(|attribute| attribute.graph.is_some() || !attribute.graphs.is_empty());
        let reads_shapes = SHAPE_INPUTS.iter().find(|(operator, _)| *operator == node.operator);
        let by = reads_shapes.map_or(&[][..], |(_, first)| node.inputs.get(*first..).unwrap_or_default());
        !KNOWN.contains(&node.domain.as_str()) || has_graph || by.iter().any(|input| !is_constant(graph, input))
    };
    graph.nodes.iter().find(depends).map(|node| node.operator.as_str())
}

/// True if a value is part of the model. One that is an input too may be replaced.
fn is_constant(graph: &GraphProto, name: &str) -> bool {
    let is_made =
        || graph.nodes.iter().any(|node| node.operator == "Constant" && node.outputs.iter().any(|out| out == name));
    let is_input = || graph.inputs.iter().any(|input| input.name == name);
    let is_kept = || graph.initializers.iter().any(|tensor| tensor.name == name);
    name.is_empty() || is_made() || is_kept() && !is_input()
}

#[cfg(test)]
mod tests {
    use super::{
        super::onnx::{AttributeProto, TensorProto, ValueInfoProto},
        *,
    };

    fn node(operator: &str, inputs: &[&str]) -> NodeProto {
        let inputs = inputs.iter().map(ToString::to_string).collect();
        NodeProto { operator: operator.into(), inputs, ..NodeProto::default() }
    }

    #[test]
    fn value_dependent_operators_are_found() {
        let initializers = vec![TensorProto { name: "kept".into(), ..TensorProto::default() }];
        let inputs = vec![ValueInfoProto { name: "x".into(), kind: None }];
        let graph = |last: NodeProto| {
            let nodes = vec![node("Gemm", &["x", "w", "b"]), node("Expand", &["x", "kept"]), last];
            GraphProto { nodes, initializers: initializers.clone(), inputs: inputs.clone(), ..GraphProto::default() }
        };
        for harmless in [node("Relu", &["x"]), node("Tile", &["x", "kept"]), node("Resize", &["x", "", "kept"])] {
            assert_eq!(depends_on_values(&graph(harmless)), None);
        }
        let held = AttributeProto { graph: Some(GraphProto::default()), ..AttributeProto::default() };
        for wrong in [
            node("Range", &["kept", "x", "kept"]),
            node("Expand", &["x", "computed"]),
            NodeProto { attributes: vec![held], ..node("Loop", &["x"]) },
            NodeProto { domain: "com.example".into(), ..node("Relu", &["x"]) },
        ] {
            let operator = wrong.operator.clone();
            assert_eq!(depends_on_values(&graph(wrong)), Some(&*operator));
        }
    }
}
