//! A model file on its way to ONNX Runtime: read into memory with the weights that lie beside it, and changed where it could
//! not be served as it is.
//!
//! ONNX Runtime would map the files into memory: one that is overwritten in place would change the answers of a version that
//! serves, and one that is cut short would end the process (SIGBUS). In memory a loaded version is what was loaded.

mod cost;
mod hazard;
pub(super) mod onnx;
mod row_proof;
mod unwritten;
mod zip_map;

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
    sync::OnceLock,
};

use crate::{error::Failure, files::ModelPath};
pub use hazard::NeedsElements;
use onnx::{Model, ValueInfo};
pub use row_proof::{RowAnalysis, RowProof};

/// A model, in memory.
pub struct ModelFile {
    /// The model as ONNX Runtime gets it.
    pub(super) encoded: Vec<u8>,
    /// The files of weights that it names, as it names them, with what they hold.
    pub(super) weights: Vec<(PathBuf, Vec<u8>)>,
    /// Names of classes, by output.
    pub(super) labels: BTreeMap<String, Vec<String>>,
    /// Why the cost of a run may depend on the values that a request holds, for people; `None` where it does not.
    pub(super) uneven: Option<String>,
    /// Why one request could end the process that runs the model, for people; `None` where no such way is known.
    pub(super) hazard: Option<String>,
    /// Which extents of a request may not be zero.
    pub(super) zero_extents: NeedsElements,
    /// An operator that may leave its outputs unwritten, so that runs have to start with zeroed memory; `None` where there is none.
    pub(super) unwritten: Option<String>,
    /// Rows of a batch, as the graph treats them.
    pub(super) rows: RowAnalysis,
    /// The inputs of the graph that are not part of the model; none where it can't be read.
    pub(super) inputs: Vec<ValueInfo>,
    /// SHA-256 of the model and its weights, once somebody has asked for it.
    pub(super) digest: OnceLock<[u8; 32]>,
}

impl ModelFile {
    /// Reads a model file and the weights that it names.
    ///
    /// # Errors
    /// For people: a file can't be read, or lies outside the model's folder. That the model can't be understood is no error:
    /// ONNX Runtime's words tell more.
    pub fn read(path: &ModelPath) -> Result<Self, Failure> {
        let (file, _) = path.roots().open(path).map_err(|error| Failure::unreadable(&error))?;
        let encoded = read_in_pieces(&file).map_err(|error| Failure::unreadable(&error))?;
        // Weights are slices of the file's bytes meanwhile.
        let encoded = Bytes::from(encoded);
        let (mut weights, mut labels, mut inputs) = (Vec::new(), BTreeMap::new(), Vec::new());
        let mut uneven = Some("its graph can't be read".to_owned());
        let (mut hazard, mut zero_extents) = (None, NeedsElements::default());
        let (mut changed, mut unwritten) = (None, uneven.clone());
        let model = Model::decode(encoded.clone()).unwrap_or_default();
        let rows = row_proof::analyse(&model);
        if let Model { graph: Some(graph), functions, .. } = model {
            hazard = hazard::hazard(&graph, &functions);
            zero_extents = hazard::zero_extents(&graph, &functions);
            unwritten = unwritten::find(&graph).map(ToOwned::to_owned);
            without_nul(&graph)?;
            let depends = cost::depends_on_values(&graph);
            uneven = depends.map(|operator| format!("its {operator} may take long for some values"));
            for location in graph.external_data() {
                let of = |failure: Failure| Failure {
                    why: format!("its weights in '{location}' {}", failure.why),
                    ..failure
                };
                let read = read_weights(path, &location).map_err(of)?;
                weights.push((location.into(), read));
            }
            if let Some(taken_out) = zip_map::take_out(&encoded, &graph) {
                changed = Some(taken_out.encoded);
                labels = taken_out.labels;
            }
            inputs = graph.required_inputs();
        }
        let encoded = changed.unwrap_or_else(|| encoded.into());
        Ok(ModelFile {
            encoded,
            weights,
            labels,
            uneven,
            hazard,
            zero_extents,
            unwritten,
            rows,
            inputs,
            digest: OnceLock::new(),
        })
    }

    /// Why values of a request can end the process, for people; `None` where nothing is known that does.
    pub fn hazard(&self) -> Option<&str> {
        self.hazard.as_deref()
    }

    /// Has all requests refused that are without elements, for that reason if there is one and no other is known.
    pub fn needs_elements(&mut self, why: Option<String>) {
        self.zero_extents.all = self.zero_extents.all.take().or(why);
    }

    /// Bytes of the model and of its weights.
    pub(super) fn bytes(&self) -> usize {
        self.encoded.len() + self.weights.iter().map(|(_, contents)| contents.len()).sum::<usize>()
    }

    /// SHA-256 of the model and its weights, as they are loaded.
    pub fn digest(&self) -> [u8; 32] {
        *self.digest.get_or_init(|| self.hash())
    }

    fn hash(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        add(&self.encoded);
        for (name, contents) in &self.weights {
            add(name.as_os_str().as_bytes());
            add(contents);
        }
        hasher.finalize().into()
    }
}

/// ONNX Runtime would take a name up to its first NUL for the whole, and find no input of that name in any run.
fn without_nul(graph: &onnx::Graph) -> Result<(), Failure> {
    let kinds = [("input", &graph.inputs), ("output", &graph.outputs)];
    let named = kinds.iter().flat_map(|(kind, infos)| infos.iter().map(move |info| (kind, &info.name)));
    match named.into_iter().find(|(_, name)| name.contains('\0')) {
        None => Ok(()),
        Some((kind, name)) => Err(Failure::lasting(format!(
            "the name of its {kind} '{}' has a NUL in it, which no run can be given: rename it and export the model again",
            name.escape_debug()
        ))),
    }
}

/// Bytes that are read with one call.
const PIECE: u64 = 256 << 10;

/// Reads a file. During a call of the system many kernels give the CPU to nobody else, whatever the priority of who called: to
/// read 90 MB with one call had requests wait for 150 ms.
fn read_in_pieces(file: &File) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    contents.try_reserve_exact(usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX))?;
    while file.take(PIECE).read_to_end(&mut contents)? > 0 {}
    Ok(contents)
}

/// A file of weights. Its name must lead nowhere but into the model's folder, and the file must lie where the files of the model
/// may: a model may come from anywhere, and is not to read what it likes.
fn read_weights(model: &ModelPath, location: &str) -> Result<Vec<u8>, Failure> {
    let folder = model.folder();
    if !stays_inside(Path::new(location)) {
        return Err(Failure::lasting(format!(
            "lie outside the model's folder {}: put the file beside the model and name it by a relative path",
            folder.display()
        )));
    }
    let path = folder.join(location);
    let read = model.roots().open(&path).and_then(|(file, _)| read_in_pieces(&file));
    read.map_err(|error| {
        let why = format!("can't be read from {}: {error}; they belong beside the model", path.display());
        // Weights may be on their way; what is no file, or lies elsewhere, stays so.
        if error.kind() == io::ErrorKind::InvalidInput { Failure::lasting(why) } else { Failure::passing(why) }
    })
}

/// Whether a relative path names a file, and leads out of its folder at no point.
fn stays_inside(path: &Path) -> bool {
    let mut depth = 0_usize;
    for part in path.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    depth > 0
}

impl onnx::Graph {
    /// The inputs that a run needs: those with a value of their own may be given.
    fn required_inputs(self) -> Vec<ValueInfo> {
        let kept: BTreeSet<String> = self.initializers.into_iter().map(|tensor| tensor.name).collect();
        self.inputs.into_iter().filter(|input| !kept.contains(&input.name)).collect()
    }

    /// The files that hold weights of the graph and of those inside it.
    fn external_data(&self) -> BTreeSet<String> {
        let mut locations = BTreeSet::new();
        self.collect_external_data(&mut locations);
        locations
    }

    fn collect_external_data(&self, locations: &mut BTreeSet<String>) {
        let attributes = || self.nodes.iter().flat_map(|node| &node.attributes);
        let attribute_tensors = attributes().flat_map(|attribute| attribute.tensor.iter().chain(&attribute.tensors));
        let tensors = self.initializers.iter().chain(attribute_tensors);
        let entries = tensors.flat_map(|tensor| &tensor.external_data);
        locations.extend(entries.filter(|entry| entry.key == "location").map(|entry| entry.value.clone()));
        for graph in attributes().flat_map(|attribute| attribute.graph.iter().chain(&attribute.graphs)) {
            graph.collect_external_data(locations);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_weights_stay_in_the_folder() {
        for inside in ["w.bin", "./w.bin", "w/x.bin", "w/../x.bin", "a/b/../../x.bin"] {
            assert!(stays_inside(Path::new(inside)), "{inside}");
        }
        for outside in ["", ".", "w/..", "../w.bin", "w/../../x.bin", "/etc/passwd", "w/../../m/w.bin"] {
            assert!(!stays_inside(Path::new(outside)), "{outside}");
        }
    }
}
