//! The messages of onnx.proto (names and field numbers as in ONNX 1.23) as far as they are needed here; all else is skipped
//! when they are decoded, so nothing but what is made here is encoded again.

use bytes::Bytes;
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(in crate::engine) struct ModelProto {
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    pub opsets: Vec<OperatorSetIdProto>,
    #[prost(message, repeated, tag = "25")]
    pub functions: Vec<FunctionProto>,
}

/// A version of the operators of a domain.
#[derive(Clone, PartialEq, Message)]
pub(in crate::engine) struct OperatorSetIdProto {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// An operator that the model defines itself.
#[derive(Clone, PartialEq, Message)]
pub(in crate::engine) struct FunctionProto {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, repeated, tag = "4")]
    pub inputs: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    pub outputs: Vec<String>,
    #[prost(message, repeated, tag = "7")]
    pub nodes: Vec<NodeProto>,
    #[prost(message, repeated, tag = "9")]
    pub opsets: Vec<OperatorSetIdProto>,
    #[prost(string, tag = "10")]
    pub domain: String,
    /// Shapes that are declared of values inside.
    #[prost(message, repeated, tag = "12")]
    pub values: Vec<ValueInfoProto>,
    /// Attributes with the values that they have where a node gives none.
    #[prost(message, repeated, tag = "11")]
    pub defaults: Vec<AttributeProto>,
}

/// Field of a model that holds its graph.
pub(in crate::engine) const MODEL_GRAPH: u32 = 7;

#[derive(Clone, PartialEq, Message)]
pub(in crate::engine) struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    pub nodes: Vec<NodeProto>,
    #[prost(message, repeated, tag = "5")]
    pub initializers: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    pub inputs: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    pub outputs: Vec<ValueInfoProto>,
    /// Shapes that are declared of values inside.
    #[prost(message, repeated, tag = "13")]
    pub values: Vec<ValueInfoProto>,
}

/// Fields of a graph that hold a node and an output.
pub(in crate::engine) const GRAPH_NODE: u32 = 1;
pub(in crate::engine) const GRAPH_OUTPUT: u32 = 12;

#[derive(Clone, PartialEq, Message)]
pub(in crate::engine) struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    pub inputs: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub outputs: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub operator: String,
    #[prost(message, repeated, tag = "5")]
    pub attributes: Vec<AttributeProto>,
    #[prost(string, tag = "7")]
    pub domain: String,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::engine) struct AttributeProto {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(float, tag = "2")]
    pub float: f32,
    #[prost(int64, tag = "3")]
    pub integer: i64,
    #[prost(bytes = "vec", tag = "4")]
    pub string: Vec<u8>,
    #[prost(message, optional, tag = "5")]
    pub tensor: Option<TensorProto>,
    #[prost(message, optional, tag = "6")]
    pub graph: Option<GraphProto>,
    #[prost(int64, repeated, tag = "8")]
    pub integers: Vec<i64>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub strings: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "10")]
    pub tensors: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    pub graphs: Vec<GraphProto>,
    /// In a function: the attribute of the node that calls it, whose value this one has.
    #[prost(string, tag = "21")]
    pub reference: String,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::engine) struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    pub extents: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub element: i32,
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    #[prost(string, tag = "8")]
    pub name: String,
    /// A slice of the file's bytes, where the model is decoded from `Bytes`.
    #[prost(bytes = "bytes", tag = "9")]
    pub raw_data: Bytes,
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntryProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::engine) struct StringStringEntryProto {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// An input or output of a graph.
#[derive(Clone, PartialEq, Message)]
pub(in crate::engine) struct ValueInfoProto {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub kind: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::engine) struct TypeProto {
    #[prost(message, optional, tag = "1")]
    pub tensor: Option<TensorTypeProto>,
}

/// `TypeProto.Tensor`.
#[derive(Clone, PartialEq, Message)]
pub(in crate::engine) struct TensorTypeProto {
    #[prost(int32, tag = "1")]
    pub element: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

/// `TensorProto.DataType`.
pub(in crate::engine) const FLOAT: i32 = 1;
pub(in crate::engine) const DOUBLE: i32 = 11;
pub(in crate::engine) const INT32: i32 = 6;
pub(in crate::engine) const INT64: i32 = 7;
pub(in crate::engine) const BOOL: i32 = 9;

#[derive(Clone, PartialEq, Message)]
pub(in crate::engine) struct TensorShapeProto {
    #[prost(message, repeated, tag = "1")]
    pub dimensions: Vec<DimensionProto>,
}

/// One axis, `TensorShapeProto.Dimension`: a number, a name, or neither.
#[derive(Clone, PartialEq, Message)]
pub(in crate::engine) struct DimensionProto {
    #[prost(int64, optional, tag = "1")]
    pub extent: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
}
