//! The messages between the server and a worker.

use prost::{Message, Oneof};

use crate::tensor::{Datatype, Dimension, Signature, TensorSpec};

/// A message of the server.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RequestMessage {
    #[prost(oneof = "RequestBody", tags = "1, 2, 3")]
    pub request: Option<RequestBody>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum RequestBody {
    /// Answered by `Loaded` or `Refused`.
    #[prost(message, tag = "1")]
    Load(LoadCommand),
    /// Answered by `Ran`, `Failed` or `Lacks`.
    #[prost(message, tag = "2")]
    Run(RunCommand),
    /// Room that `Lacks` asked for: answered by `Ran` or `Failed`.
    #[prost(message, tag = "3")]
    Room(Area),
}

/// A message of the worker.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ReplyMessage {
    #[prost(oneof = "ReplyBody", tags = "1, 2, 3, 4, 5")]
    pub body: Option<ReplyBody>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum ReplyBody {
    #[prost(message, tag = "1")]
    Loaded(ModelSignature),
    #[prost(message, tag = "2")]
    Refused(Refused),
    #[prost(message, tag = "3")]
    Ran(RunOutputs),
    #[prost(message, tag = "4")]
    Failed(ErrorReply),
    /// The outputs take so many bytes, for which the worker was given no room.
    #[prost(uint64, tag = "5")]
    Lacks(u64),
}

/// A model, whose bytes lie in the shared file: the model file, then its weights.
#[derive(Clone, PartialEq, Message)]
pub(super) struct LoadCommand {
    #[prost(uint64, tag = "5")]
    pub offset: u64,
    #[prost(uint64, tag = "1")]
    pub model: u64,
    #[prost(message, repeated, tag = "2")]
    pub weights: Vec<WeightsEntry>,
    /// The model's folder.
    #[prost(bytes = "vec", tag = "3")]
    pub folder: Vec<u8>,
    /// Threads of a run.
    #[prost(uint32, tag = "4")]
    pub threads: u32,
    /// Bytes that one run may hold.
    #[prost(uint64, tag = "6")]
    pub max_run_memory: u64,
    /// True if runs begin with zeroed memory, since a kernel may leave outputs unwritten.
    #[prost(bool, tag = "7")]
    pub zeroed: bool,
}

/// A file of weights: its names in the model, and its length.
#[derive(Clone, PartialEq, Message)]
pub(super) struct WeightsEntry {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub names: Vec<Vec<u8>>,
    #[prost(uint64, tag = "2")]
    pub length: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Refused {
    #[prost(string, tag = "1")]
    pub why: String,
    #[prost(bool, tag = "2")]
    pub may_pass: bool,
}

/// A part of the shared file.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Area {
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    #[prost(uint64, tag = "2")]
    pub size: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RunCommand {
    /// Counts up; by this the server stops it.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    #[prost(message, optional, tag = "2")]
    pub input: Option<Area>,
    #[prost(message, optional, tag = "3")]
    pub output: Option<Area>,
    /// The required inputs in their order, then the optional ones that are given.
    #[prost(message, repeated, tag = "4")]
    pub inputs: Vec<AreaTensor>,
    /// Offsets of areas that are not used any more.
    #[prost(uint64, repeated, tag = "5")]
    pub retired: Vec<u64>,
}

/// A tensor in an area.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AreaTensor {
    /// From the start of the area.
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    #[prost(uint64, tag = "2")]
    pub length: u64,
    #[prost(uint64, repeated, tag = "3")]
    pub extents: Vec<u64>,
    /// Index of the input: the required ones first, then the optional ones.
    #[prost(uint32, tag = "4")]
    pub index: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RunOutputs {
    /// All outputs in their order.
    #[prost(message, repeated, tag = "1")]
    pub outputs: Vec<AreaTensor>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ErrorReply {
    /// An index into `Code::OF_INFERENCES`.
    #[prost(uint32, tag = "1")]
    pub code: u32,
    #[prost(string, tag = "2")]
    pub why: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelSignature {
    #[prost(message, repeated, tag = "1")]
    pub inputs: Vec<TensorDeclaration>,
    #[prost(message, repeated, tag = "2")]
    pub optional_inputs: Vec<TensorDeclaration>,
    #[prost(message, repeated, tag = "3")]
    pub outputs: Vec<TensorDeclaration>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorDeclaration {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub datatype: String,
    /// Absent where the model declares none.
    #[prost(message, optional, tag = "3")]
    pub shape: Option<Axes>,
    #[prost(string, repeated, tag = "4")]
    pub labels: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Axes {
    #[prost(message, repeated, tag = "1")]
    pub axes: Vec<Axis>,
}

/// A number, a name, or neither.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Axis {
    #[prost(uint64, optional, tag = "1")]
    pub extent: Option<u64>,
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
}

impl From<RequestBody> for RequestMessage {
    fn from(request: RequestBody) -> Self {
        RequestMessage { request: Some(request) }
    }
}

impl From<ReplyBody> for ReplyMessage {
    fn from(body: ReplyBody) -> Self {
        ReplyMessage { body: Some(body) }
    }
}

impl From<&Signature> for ModelSignature {
    fn from(signature: &Signature) -> Self {
        let specs = |specs: &[TensorSpec]| specs.iter().map(TensorDeclaration::from).collect();
        ModelSignature {
            inputs: specs(&signature.inputs),
            optional_inputs: specs(&signature.optional_inputs),
            outputs: specs(&signature.outputs),
        }
    }
}

impl From<&TensorSpec> for TensorDeclaration {
    fn from(spec: &TensorSpec) -> Self {
        let axis = |dimension: &Dimension| match dimension {
            Dimension::Fixed(extent) => Axis { extent: Some(*extent as u64), name: None },
            Dimension::Symbolic(name) => Axis { extent: None, name: name.as_deref().map(str::to_owned) },
        };
        TensorDeclaration {
            name: spec.name.to_string(),
            datatype: spec.datatype.name().into(),
            shape: spec.shape.as_ref().map(|shape| Axes { axes: shape.iter().map(axis).collect() }),
            labels: spec.labels.clone(),
        }
    }
}

impl ModelSignature {
    /// The signature that it says; `None` where it says none that there can be.
    pub(super) fn read(self) -> Option<Signature> {
        let specs =
            |specs: Vec<TensorDeclaration>| specs.into_iter().map(TensorDeclaration::read).collect::<Option<Vec<_>>>();
        Some(Signature::new(specs(self.inputs)?, specs(self.optional_inputs)?, specs(self.outputs)?))
    }
}

impl TensorDeclaration {
    fn read(self) -> Option<TensorSpec> {
        let axis = |axis: Axis| match axis.extent {
            Some(extent) => usize::try_from(extent).ok().map(Dimension::Fixed),
            None => Some(Dimension::Symbolic(axis.name.map(Into::into))),
        };
        let shape = match self.shape {
            Some(shape) => Some(shape.axes.into_iter().map(axis).collect::<Option<Vec<_>>>()?),
            None => None,
        };
        let datatype = Datatype::from_name(&self.datatype)?;
        Some(TensorSpec { name: self.name.into(), datatype, shape, labels: self.labels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_round_trip_unchanged() {
        let spec = |name: &str, datatype, shape| TensorSpec { name: name.into(), datatype, shape, labels: Vec::new() };
        let named = || Dimension::Symbolic(Some("batch".into()));
        let inputs = vec![
            spec("x", Datatype::Fp32, Some(vec![named(), Dimension::Fixed(3), Dimension::Symbolic(None)])),
            spec("scalar", Datatype::Int64, Some(Vec::new())),
            spec("any rank", Datatype::Bytes, None),
        ];
        let optional = vec![spec("scale", Datatype::Fp16, Some(vec![Dimension::Fixed(0)]))];
        let labelled =
            TensorSpec { labels: vec!["a".into(), "b".into()], ..spec("y", Datatype::Bf16, Some(vec![named()])) };
        let signature = Signature::new(inputs, optional, vec![labelled]);
        assert_eq!(ModelSignature::from(&signature).read(), Some(signature));
    }

    #[test]
    fn signature_rejects_an_unknown_datatype() {
        let spec = TensorDeclaration { datatype: "FP31".into(), ..TensorDeclaration::default() };
        assert_eq!(ModelSignature { inputs: vec![spec], ..ModelSignature::default() }.read(), None);
    }
}
