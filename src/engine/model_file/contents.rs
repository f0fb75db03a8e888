//! Contents of a model file, read into memory with the weights that lie beside it, and changed where the model could not be served
//! as it is.
//!
//! ONNX Runtime would map the files into memory: one that is overwritten in place would change the answers of a version that
//! serves, and one that is cut short would end the process (SIGBUS). In memory a loaded version is what was loaded.

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Cursor,
    os::unix::ffi::OsStrExt,
    sync::OnceLock,
};

use super::{
    cost,
    hazard::{self, NeedsElements},
    onnx::{self, ModelProto, ValueInfoProto},
    row_proof::{self, RowAnalysis},
    unwritten, zip_map,
};
use crate::{
    engine::weights::{self, WeightsFile, read_in_pieces},
    error::Failure,
    host::files::ModelPath,
};

/// A model, in memory.
pub struct ModelFile {
    /// The model as ONNX Runtime gets it.
    pub(in crate::engine) encoded: Vec<u8>,
    /// The files of weights that it names.
    pub(in crate::engine) weights: Vec<WeightsFile>,
    /// Names of classes, by output.
    pub(in crate::engine) labels: BTreeMap<String, Vec<String>>,
    /// The reason that the cost of a run may depend on the values that a request holds, for people; `None` where it does not.
    pub(in crate::engine) uneven: Option<String>,
    /// The reason that one request could end the process that runs the model, for people; `None` where no such way is known.
    pub(in crate::engine) hazard: Option<String>,
    /// Extents of a request that may not be zero.
    pub(in crate::engine) zero_extents: NeedsElements,
    /// An operator that may leave its outputs unwritten, so that runs have to start with zeroed memory; `None` where there is none.
    pub(in crate::engine) unwritten: Option<String>,
    /// Rows of a batch, as the graph treats them.
    pub(in crate::engine) rows: RowAnalysis,
    /// The inputs of the graph that are not part of the model; none where it can't be read.
    pub(in crate::engine) inputs: Vec<ValueInfoProto>,
    /// SHA-256 of the model and its weights, once somebody has asked for it.
    pub(in crate::engine) digest: OnceLock<[u8; 32]>,
}

impl ModelFile {
    /// Reads a model file and the weights that it names.
    ///
    /// # Errors
    /// For people: a file can't be read, or lies outside the model's folder. That the model can't be understood is no error:
    /// ONNX Runtime's words say more.
    pub fn read(path: &ModelPath) -> Result<Self, Failure> {
        let (file, _) = path.roots().open(path).map_err(|error| Failure::unreadable(&error))?;
        let encoded = read_in_pieces(&file).map_err(|error| Failure::unreadable(&error))?;
        // Weights are slices of the file's bytes meanwhile.
        let encoded = Bytes::from(encoded);
        let (mut weights, mut labels, mut inputs) = (Vec::new(), BTreeMap::new(), Vec::new());
        let mut uneven = Some("its graph can't be read".to_owned());
        let (mut hazard, mut zero_extents) = (None, NeedsElements::default());
        let (mut changed, mut unwritten) = (None, uneven.clone());
        let model = ModelProto::decode(encoded.clone()).unwrap_or_default();
        let mut rows = row_proof::analyse(&model);
        if let ModelProto { graph: Some(graph), functions, .. } = model {
            hazard = hazard::hazard(&graph, &functions);
            zero_extents = hazard::zero_extents(&graph, &functions);
            unwritten = unwritten::find(&graph).map(ToOwned::to_owned);
            without_nul(&graph)?;
            let depends = cost::depends_on_values(&graph);
            uneven = depends.map(|operator| format!("its {operator} may take long for some values"));
            let locations = weights::locations(&mut Cursor::new(&encoded)).unwrap_or_default();
            weights = weights::read(path, &locations)?;
            if let Some(taken_out) = zip_map::take_out(&encoded, &graph) {
                // Its outputs are others.
                let encoded = Bytes::from(taken_out.encoded);
                rows = row_proof::analyse(&ModelProto::decode(encoded.clone()).unwrap_or_default());
                changed = Some(encoded);
                labels = taken_out.labels;
            }
            inputs = graph.required_inputs();
        }
        let encoded = changed.unwrap_or(encoded).into();
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

    /// The reason that values of a request can end the process, for people; `None` where nothing is known that does.
    pub fn hazard(&self) -> Option<&str> {
        self.hazard.as_deref()
    }

    /// Has all requests refused that are without elements, for that reason if there is one and no other is known.
    pub fn needs_elements(&mut self, why: Option<String>) {
        self.zero_extents.all = self.zero_extents.all.take().or(why);
    }

    /// Bytes of the model and of its weights.
    pub(in crate::engine) fn bytes(&self) -> usize {
        self.encoded.len() + self.weights.iter().map(|file| file.contents.len()).sum::<usize>()
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
        for file in &self.weights {
            file.names.iter().for_each(|name| add(name.as_os_str().as_bytes()));
            add(&file.contents);
        }
        hasher.finalize().into()
    }
}

/// ONNX Runtime would take a name up to its first NUL for the whole, and find no input of that name in any run.
fn without_nul(graph: &onnx::GraphProto) -> Result<(), Failure> {
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

impl onnx::GraphProto {
    /// The inputs that a run needs: those with a value of their own may be given.
    fn required_inputs(self) -> Vec<ValueInfoProto> {
        let kept: BTreeSet<String> = self.initializers.into_iter().map(|tensor| tensor.name).collect();
        self.inputs.into_iter().filter(|input| !kept.contains(&input.name)).collect()
    }
}
