//! Makes small ONNX models: the messages of onnx.proto (field numbers as in ONNX 1.23) as far as they are needed.

use prost::Message;
use std::{fs, path::Path};

/// Element types of onnx.proto's TensorProto.DataType, with the protocol's names and the bytes that an element takes, 0 where they
/// differ.
pub const ELEMENT_TYPES: [(&str, i32, usize); 14] = [
    ("FP32", 1, 4),
    ("UINT8", 2, 1),
    ("INT8", 3, 1),
    ("UINT16", 4, 2),
    ("INT16", 5, 2),
    ("INT32", 6, 4),
    ("INT64", 7, 8),
    ("BOOL", 9, 1),
    ("FP64", 11, 8),
    ("UINT32", 12, 4),
    ("UINT64", 13, 8),
    ("FP16", 10, 2),
    ("BF16", 16, 2),
    ("BYTES", STRING, 0),
];

pub const FLOAT: i32 = 1;
pub const UINT8: i32 = 2;
pub const INT64: i32 = 7;
pub const DOUBLE: i32 = 11;
pub const STRING: i32 = 8;
pub const BOOL: i32 = 9;

#[derive(Clone, PartialEq, Message)]
pub struct Model {
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
}

#[derive(Clone, PartialEq, Message)]
pub struct OperatorSet {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Node {
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    #[prost(string, tag = "4")]
    pub op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
    #[prost(string, tag = "7")]
    pub domain: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Attribute {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(int64, tag = "3")]
    pub i: i64,
    #[prost(bytes = "vec", tag = "4")]
    pub s: Vec<u8>,
    #[prost(message, optional, tag = "6")]
    pub g: Option<Graph>,
    #[prost(int64, repeated, tag = "8")]
    pub ints: Vec<i64>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub strings: Vec<Vec<u8>>,
    #[prost(int32, tag = "20")]
    pub kind: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "vec", tag = "9")]
    pub raw_data: Vec<u8>,
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<Entry>,
    /// 1: external_data says where the elements are.
    #[prost(int32, tag = "14")]
    pub data_location: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct ValueInfo {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<Type>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Type {
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorType>,
    #[prost(message, optional, boxed, tag = "4")]
    pub sequence_type: Option<Box<SequenceType>>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SequenceType {
    #[prost(message, optional, boxed, tag = "1")]
    pub elem_type: Option<Box<Type>>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TensorType {
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShape>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TensorShape {
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dim>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Dim {
    #[prost(oneof = "DimValue", tags = "1, 2")]
    pub value: Option<DimValue>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum DimValue {
    #[prost(int64, tag = "1")]
    Fixed(i64),
    #[prost(string, tag = "2")]
    Symbol(String),
}

/// An input or output; a dimension is a number or a name.
pub fn value(name: &str, elem_type: i32, dims: &[&str]) -> ValueInfo {
    let dim = |text: &&str| {
        let value = text.parse().map(DimValue::Fixed).unwrap_or_else(|_| DimValue::Symbol(text.to_string()));
        Dim { value: Some(value) }
    };
    let shape = Some(TensorShape { dim: dims.iter().map(dim).collect() });
    let tensor_type = Some(TensorType { elem_type, shape });
    ValueInfo { name: name.into(), r#type: Some(Type { tensor_type, sequence_type: None }) }
}

/// An input or output whose rank is not declared.
pub fn value_of_any_rank(name: &str, elem_type: i32) -> ValueInfo {
    let tensor_type = Some(TensorType { elem_type, shape: None });
    ValueInfo { name: name.into(), r#type: Some(Type { tensor_type, sequence_type: None }) }
}

pub fn node(op_type: &str, inputs: &[&str], outputs: &[&str]) -> Node {
    let strings = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
    Node { op_type: op_type.into(), input: strings(inputs), output: strings(outputs), ..Node::default() }
}

impl Node {
    pub fn int(mut self, name: &str, i: i64) -> Self {
        self.attribute.push(Attribute { name: name.into(), i, kind: 2, ..Attribute::default() });
        self
    }

    pub fn ints(mut self, name: &str, ints: &[i64]) -> Self {
        self.attribute.push(Attribute { name: name.into(), ints: ints.into(), kind: 7, ..Attribute::default() });
        self
    }

    pub fn string(mut self, name: &str, text: &str) -> Self {
        self.attribute.push(Attribute { name: name.into(), s: text.into(), kind: 3, ..Attribute::default() });
        self
    }

    pub fn strings(mut self, name: &str, texts: &[&str]) -> Self {
        let strings = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        self.attribute.push(Attribute { name: name.into(), strings, kind: 8, ..Attribute::default() });
        self
    }

    pub fn graph(mut self, name: &str, graph: Graph) -> Self {
        self.attribute.push(Attribute { name: name.into(), g: Some(graph), kind: 5, ..Attribute::default() });
        self
    }
}

pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> Tensor {
    let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor { dims: dims.into(), data_type: FLOAT, name: name.into(), raw_data, ..Tensor::default() }
}

/// The same with the elements in a file beside the model.
pub fn external_floats(name: &str, dims: &[i64], file: &str) -> Tensor {
    let external_data = vec![Entry { key: "location".into(), value: file.into() }];
    Tensor { external_data, data_location: 1, ..floats(name, dims, &[]) }
}

impl Graph {
    /// Writes the graph as `path`, creating its folder.
    pub fn save(self, path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, self.encode()).unwrap();
    }

    /// The graph as a model file's bytes.
    pub fn encode(self) -> Vec<u8> {
        self.encode_with(17)
    }

    /// The same of another version of the operators.
    pub fn encode_with(self, version: i64) -> Vec<u8> {
        let opset = OperatorSet { domain: String::new(), version };
        Model { ir_version: 8, graph: Some(self), opset_import: vec![opset] }.encode_to_vec()
    }
}

/// `y = x + number`, FP32 [batch,2].
pub fn add(number: f32) -> Graph {
    Graph {
        name: "add".into(),
        node: vec![node("Add", &["x", "number"], &["y"])],
        initializer: vec![floats("number", &[1], &[number])],
        input: vec![value("x", FLOAT, &["batch", "2"])],
        output: vec![value("y", FLOAT, &["batch", "2"])],
    }
}

/// `y = x` of the given element type and dimensions.
pub fn identity(elem_type: i32, dims: &[&str]) -> Graph {
    Graph {
        name: "identity".into(),
        node: vec![node("Identity", &["x"], &["y"])],
        initializer: vec![],
        input: vec![value("x", elem_type, dims)],
        output: vec![value("y", elem_type, dims)],
    }
}

/// `y`, a sequence of as many tensors as x, FP32 [batch], has elements: what the protocol can't carry.
pub fn sequence() -> Graph {
    Graph {
        name: "sequence".into(),
        node: vec![node("SplitToSequence", &["x"], &["y"])],
        initializer: vec![],
        input: vec![value("x", FLOAT, &["batch"])],
        output: vec![sequence_of(value("y", FLOAT, &["1"]))],
    }
}

/// An output that is a sequence of such tensors.
pub fn sequence_of(element: ValueInfo) -> ValueInfo {
    let sequence_type = Some(Box::new(SequenceType { elem_type: element.r#type.map(Box::new) }));
    ValueInfo { name: element.name, r#type: Some(Type { tensor_type: None, sequence_type }) }
}

/// `sum = a + b` and `difference = a - b`, all FP32 [batch,2].
pub fn pair() -> Graph {
    Graph {
        name: "pair".into(),
        node: vec![node("Add", &["a", "b"], &["sum"]), node("Sub", &["a", "b"], &["difference"])],
        initializer: vec![],
        input: ["a", "b"].map(|name| value(name, FLOAT, &["batch", "2"])).into(),
        output: ["sum", "difference"].map(|name| value(name, FLOAT, &["batch", "2"])).into(),
    }
}

/// `y = iterations`, INT64 [batch,1], after as many rounds of a matrix product as the largest of them: a run that takes as
/// long as the test wants.
pub fn slow() -> Graph {
    const SIDE: i64 = 64;
    let body = Graph {
        name: "round".into(),
        node: vec![
            node("MatMul", &["state", "state"], &["product"]),
            node("Softmax", &["product"], &["next"]),
            node("Identity", &["go"], &["again"]),
        ],
        initializer: vec![],
        input: vec![value("round", INT64, &[]), value("go", BOOL, &[]), value("state", FLOAT, &["64", "64"])],
        output: vec![value("again", BOOL, &[]), value("next", FLOAT, &["64", "64"])],
    };
    let start: Vec<f32> = (0..SIDE * SIDE).map(|index| (index % 7) as f32 / 100.0).collect();
    Graph {
        name: "slow".into(),
        node: vec![
            node("ReduceMax", &["iterations"], &["rounds"]).int("keepdims", 0),
            node("Loop", &["rounds", "", "start"], &["end"]).graph("body", body),
            // Every element of a softmax is less than 2, so this adds 0; it keeps the loop from being optimised away.
            node("ReduceMax", &["end"], &["largest"]).int("keepdims", 0),
            node("Div", &["largest", "two"], &["fraction"]),
            node("Floor", &["fraction"], &["floor"]),
            node("Cast", &["floor"], &["zero"]).int("to", INT64.into()),
            node("Add", &["iterations", "zero"], &["y"]),
        ],
        initializer: vec![floats("start", &[SIDE, SIDE], &start), floats("two", &[], &[2.0])],
        input: vec![value("iterations", INT64, &["batch", "1"])],
        output: vec![value("y", INT64, &["batch", "1"])],
    }
}

/// As [`slow`], with `times` as many rounds.
pub fn slower(times: i64) -> Graph {
    let mut graph = slow();
    let raw_data = times.to_le_bytes().into();
    graph.initializer.push(Tensor { data_type: INT64, name: "times".into(), raw_data, ..Tensor::default() });
    graph.node[0].input[0] = "longer".into();
    graph.node.insert(0, node("Mul", &["iterations", "times"], &["longer"]));
    graph
}

/// `y = table[x]`, x INT64 [batch,1], y FP32 [batch,1,2]: fails for an index out of 0 to 3.
pub fn lookup() -> Graph {
    lookup_of(4)
}

/// The same with a table of so many rows.
pub fn lookup_of(rows: u8) -> Graph {
    let table: Vec<f32> = (0..2 * rows).map(|index| f32::from(index) / 2.0).collect();
    Graph {
        name: "lookup".into(),
        node: vec![node("Gather", &["table", "x"], &["y"])],
        initializer: vec![floats("table", &[rows.into(), 2], &table)],
        input: vec![value("x", INT64, &["batch", "1"])],
        output: vec![value("y", FLOAT, &["batch", "1", "2"])],
    }
}

/// `y = softmax of x over the batch`, FP32 [batch,2]: rows influence each other.
pub fn across_rows() -> Graph {
    Graph {
        name: "across_rows".into(),
        node: vec![node("Softmax", &["x"], &["y"]).int("axis", 0)],
        initializer: vec![],
        input: vec![value("x", FLOAT, &["batch", "2"])],
        output: vec![value("y", FLOAT, &["batch", "2"])],
    }
}

/// `y = x[:, number]`, FP32 [batch,width] to [batch,1]: one whose input costs the most.
pub fn column(width: usize, number: usize) -> Graph {
    let raw_data = (number as i64).to_le_bytes().into();
    let number = Tensor { dims: vec![1], data_type: INT64, name: "number".into(), raw_data, ..Tensor::default() };
    Graph {
        name: "column".into(),
        node: vec![node("Gather", &["x", "number"], &["y"]).int("axis", 1)],
        initializer: vec![number],
        input: vec![value("x", FLOAT, &["batch", &width.to_string()])],
        output: vec![value("y", FLOAT, &["batch", "1"])],
    }
}

/// A multilayer perceptron with these widths, ReLU between, FP32 [batch,first] to [batch,last].
pub fn mlp(widths: &[usize]) -> Graph {
    let mut graph = Graph { name: "mlp".into(), ..Graph::default() };
    let last = widths.len() - 2;
    let mut from = "x".to_string();
    for layer in 0..=last {
        let (rows, columns) = (widths[layer], widths[layer + 1]);
        let weight = |index: usize| ((index * 7919 + layer * 104_729) % 2001) as f32 / 1000.0 - 1.0;
        let weights: Vec<f32> = (0..rows * columns).map(|index| weight(index) / (rows as f32).sqrt()).collect();
        let biases: Vec<f32> = (0..columns).map(|index| weight(index) / 10.0).collect();
        graph.initializer.push(floats(&format!("w{layer}"), &[rows as i64, columns as i64], &weights));
        graph.initializer.push(floats(&format!("b{layer}"), &[columns as i64], &biases));
        let sum = if layer == last { "y".to_string() } else { format!("sum{layer}") };
        graph.node.push(node("Gemm", &[&from, &format!("w{layer}"), &format!("b{layer}")], &[&sum]));
        if layer < last {
            from = format!("relu{layer}");
            graph.node.push(node("Relu", &[&sum], &[&from]));
        }
    }
    graph.input = vec![value("x", FLOAT, &["batch", &widths[0].to_string()])];
    graph.output = vec![value("y", FLOAT, &["batch", &widths[widths.len() - 1].to_string()])];
    graph
}
