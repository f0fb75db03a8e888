//! Weights that a model keeps in files beside it. ONNX Runtime would map those into memory: a file that is written anew in
//! place would change answers under the version that serves, and one that is cut short would end the process.

use prost::Message;
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Component, Path, PathBuf},
};

/// The files that hold weights of the model, as it names them, with what they hold.
///
/// # Errors
/// A file can't be read. That the model can't be is no error: ONNX Runtime will tell.
pub(super) fn beside(model: &Path) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let (Ok(encoded), Some(folder)) = (fs::read(model), model.parent()) else {
        return Ok(Vec::new());
    };
    let mut locations = BTreeSet::new();
    if let Some(graph) = Model::decode(encoded.as_slice()).ok().and_then(|model| model.graph) {
        graph.locations(&mut locations);
    }
    // Others are refused by ONNX Runtime, whose words tell more.
    let is_inside =
        |path: &PathBuf| path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let inside = locations.into_iter().map(PathBuf::from).filter(is_inside).filter(|path| folder.join(path).is_file());
    inside.map(|path| fs::read(folder.join(&path)).map(|contents| (path, contents))).collect()
}

// The messages of onnx.proto as far as they lead to the names of files; all else is skipped.

#[derive(Message)]
struct Model {
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
}

#[derive(Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    nodes: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    initializers: Vec<Tensor>,
}

#[derive(Message)]
struct Node {
    #[prost(message, repeated, tag = "5")]
    attributes: Vec<Attribute>,
}

#[derive(Message)]
struct Attribute {
    #[prost(message, optional, tag = "5")]
    tensor: Option<Tensor>,
    #[prost(message, optional, tag = "6")]
    graph: Option<Graph>,
}

#[derive(Message)]
struct Tensor {
    #[prost(message, repeated, tag = "13")]
    external_data: Vec<Entry>,
}

#[derive(Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

impl Graph {
    fn locations(self, locations: &mut BTreeSet<String>) {
        let mut tensors = self.initializers;
        for attribute in self.nodes.into_iter().flat_map(|node| node.attributes) {
            tensors.extend(attribute.tensor);
            if let Some(graph) = attribute.graph {
                graph.locations(locations);
            }
        }
        let entries = tensors.into_iter().flat_map(|tensor| tensor.external_data);
        locations.extend(entries.filter(|entry| entry.key == "location").map(|entry| entry.value));
    }
}
