//! Tables that inputs index, such as embeddings: made-up indices are to stay within them, and to reach all of them.

use std::collections::{BTreeMap, HashMap};

use super::super::onnx::GraphProto;

/// For each input that indexes constant tables, the extent of the smallest.
pub(super) fn table_sizes(graph: &GraphProto) -> BTreeMap<String, i64> {
    let extents: HashMap<&str, &[i64]> =
        graph.initializers.iter().map(|tensor| (&*tensor.name, &*tensor.extents)).collect();
    // The input that a tensor has the elements of.
    let mut origin: HashMap<&str, &str> = graph.inputs.iter().map(|info| (&*info.name, &*info.name)).collect();
    let mut sizes = BTreeMap::new();
    for node in &graph.nodes {
        let [first, rest @ ..] = node.inputs.as_slice() else { continue };
        match node.operator.as_str() {
            "Cast" | "Flatten" | "Identity" | "Reshape" | "Squeeze" | "Transpose" | "Unsqueeze" => {
                if let (Some(input), Some(output)) = (origin.get(first.as_str()).copied(), node.outputs.first()) {
                    origin.insert(output, input);
                }
            }
            "Gather" => {
                let axis = node.attributes.iter().find(|attribute| attribute.name == "axis");
                let axis = axis.map_or(0, |axis| axis.integer);
                let table = extents.get(first.as_str());
                let axis = if axis < 0 { axis + table.map_or(0, |table| table.len() as i64) } else { axis };
                let size = table.and_then(|table| table.get(usize::try_from(axis).ok()?));
                let input = rest.first().and_then(|indices| origin.get(indices.as_str()));
                if let (Some(size), Some(input)) = (size, input) {
                    let smallest = sizes.entry((*input).to_owned()).or_insert(*size);
                    *smallest = (*size).min(*smallest);
                }
            }
            _ => {}
        }
    }
    sizes
}
