//! Trial of a provider: a model of one operator is run by it. That its library can be loaded says little: the GPU may
//! be too old for its kernels, or have no memory left.

use bytes::Bytes;
use std::{collections::BTreeMap, num::NonZeroUsize, path::Path, sync::OnceLock};

use super::{
    environment::Engine,
    model_file::{
        ModelFile, NeedsElements, RowAnalysis,
        onnx::{
            DimensionProto, FLOAT, GraphProto, MODEL_GRAPH, NodeProto, TensorShapeProto, TensorTypeProto, TypeProto,
            ValueInfoProto,
        },
    },
    target::{Provider, Target},
};
use crate::{
    error::{Code, Failure},
    tensor::{Datatype, Shape, Tensor},
};

/// `y = Relu(x)`, of FP32 `[2]`.
fn model() -> Vec<u8> {
    /// `ir_version` (field 1) 8, and `opset_import` (field 8) of the standard domain's version 13: what any ONNX Runtime of
    /// today reads.
    const VERSIONS: [u8; 6] = [1 << 3, 8, 8 << 3 | 2, 2, 2 << 3, 13];
    let value = |name: &str| {
        let shape = Some(TensorShapeProto { dimensions: vec![DimensionProto { extent: Some(2), name: None }] });
        let tensor = Some(TensorTypeProto { element: FLOAT, shape });
        ValueInfoProto { name: name.into(), kind: Some(TypeProto { tensor }) }
    };
    let operator = NodeProto {
        operator: "Relu".into(),
        inputs: vec!["x".into()],
        outputs: vec!["y".into()],
        ..NodeProto::default()
    };
    let graph = GraphProto {
        nodes: vec![operator],
        inputs: vec![value("x")],
        outputs: vec![value("y")],
        ..GraphProto::default()
    };
    let mut encoded = VERSIONS.to_vec();
    prost::encoding::message::encode(MODEL_GRAPH, &graph, &mut encoded);
    encoded
}

impl Engine {
    /// Tries a provider: a small model is loaded and run by it. That loads what the provider needs, for good.
    ///
    /// # Errors
    /// The provider does not work here; for people.
    pub fn try_provider(&self, provider: Provider) -> Result<(), Failure> {
        run(self, provider)
    }
}

fn run(engine: &Engine, provider: Provider) -> Result<(), Failure> {
    let file = ModelFile {
        encoded: model(),
        weights: Vec::new(),
        labels: BTreeMap::new(),
        uneven: None,
        hazard: None,
        zero_extents: NeedsElements::default(),
        unwritten: None,
        rows: RowAnalysis::default(),
        inputs: Vec::new(),
        digest: OnceLock::new(),
    };
    let target = Target { provider, ..Target::cpu(NonZeroUsize::MIN) };
    let mut instance = engine.instance(file, Path::new("."), &target)?;
    let elements: Vec<u8> = [-1f32, 1.0].into_iter().flat_map(f32::to_le_bytes).collect();
    let input = Tensor::new(Datatype::Fp32, Shape::new(vec![2]), Bytes::from(elements));
    let inputs = vec![input.map_err(|error| Failure::lasting(error.to_string()))?].into();
    let outputs = instance.run(&[&inputs]).outputs.map_err(|error| {
        let may_pass = error.code() == Code::ResourceExhausted;
        Failure { why: error.to_string().trim().to_owned(), may_pass }
    })?;
    let expected: Vec<u8> = [0f32, 1.0].into_iter().flat_map(f32::to_le_bytes).collect();
    match outputs.first().map(Tensor::data) {
        Some(data) if **data == *expected => Ok(()),
        _ => Err(Failure::lasting(format!("{} answers wrongly: Relu of [-1, 1] is not [0, 1]", provider.name()))),
    }
}
