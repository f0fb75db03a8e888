//! Data flow through a graph: which values, ranks and extents a client decides.
//!
//! Everything is an upper bound: a value counts as the client's unless the graph shows that it is not. Extents that were read
//! by `Shape` do not count as the client's values, since no extent is negative.

use std::collections::HashMap;

use super::super::{
    cost,
    onnx::{BOOL, FLOAT, GraphProto, INT32, INT64, NodeProto, TensorProto, ValueInfoProto},
};

/// A value of the graph, as far as a client decides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value {
    /// `TensorProto.DataType`; 0 where it is not known.
    pub element: i32,
    /// True if a client decides its elements.
    pub by_client: bool,
    /// True if an element can be -1.
    pub minus_one: bool,
    /// True if a client decides its rank.
    pub open_rank: bool,
    /// The inputs of the graph whose extents decide its own: a bit each, of which the last stands for all from there on.
    pub extents: u64,
    /// The inputs of the graph whose extents its elements hold, as `Shape` reads them.
    pub holds: u64,
    /// True if elements decide its extents, which may then be zero though no extent of a request is.
    pub sized_by_values: bool,
}

impl Value {
    /// A value of which nothing is known.
    const UNKNOWN: Value = Value {
        element: 0,
        by_client: true,
        minus_one: true,
        open_rank: true,
        extents: u64::MAX,
        holds: u64::MAX,
        sized_by_values: true,
    };

    /// A value that is the same in every run.
    const CONSTANT: Value = Value {
        element: 0,
        by_client: false,
        minus_one: true,
        open_rank: false,
        extents: 0,
        holds: 0,
        sized_by_values: false,
    };

    fn constant(tensor: &TensorProto) -> Self {
        Value { element: tensor.element, minus_one: holds_minus_one(tensor), ..Value::CONSTANT }
    }

    fn input(info: &ValueInfoProto, index: usize) -> Self {
        let Some(kind) = info.kind.as_ref().and_then(|kind| kind.tensor.as_ref()) else { return Value::UNKNOWN };
        let open =
            |shape: &super::super::onnx::TensorShapeProto| shape.dimensions.iter().any(|axis| axis.extent.is_none());
        let extents = if kind.shape.as_ref().is_none_or(open) { 1 << index.min(63) } else { 0 };
        Value {
            element: kind.element,
            by_client: true,
            minus_one: true,
            open_rank: kind.shape.is_none(),
            extents,
            holds: 0,
            sized_by_values: false,
        }
    }

    /// A value that may be either.
    pub(super) fn or(self, other: Value) -> Value {
        Value {
            element: if self.element == 0 { other.element } else { self.element },
            by_client: self.by_client || other.by_client,
            minus_one: self.minus_one || other.minus_one,
            open_rank: self.open_rank || other.open_rank,
            extents: self.extents | other.extents,
            holds: self.holds | other.holds,
            sized_by_values: self.sized_by_values || other.sized_by_values,
        }
    }
}

/// Elements of a constant that are read at most: divisors are small.
const MAX_CONSTANT_BYTES: usize = 1 << 16;

/// True if an element of a constant may be -1. One that can't be read may.
fn holds_minus_one(tensor: &TensorProto) -> bool {
    let raw = &tensor.raw_data;
    if !tensor.external_data.is_empty() || raw.len() > MAX_CONSTANT_BYTES {
        return true;
    }
    match tensor.element {
        INT32 => {
            tensor.int32_data.contains(&-1) || raw.as_chunks().0.iter().any(|bytes| i32::from_le_bytes(*bytes) == -1)
        }
        INT64 => {
            tensor.int64_data.contains(&-1) || raw.as_chunks().0.iter().any(|bytes| i64::from_le_bytes(*bytes) == -1)
        }
        // Floats that are cast, and the like.
        _ => true,
    }
}

/// The values that a graph's nodes see, with those of the graphs around it.
pub(super) struct Scope<'a> {
    values: HashMap<String, Value>,
    outer: Option<&'a Scope<'a>>,
}

impl<'a> Scope<'a> {
    /// The inputs and constants of a model's graph.
    pub(super) fn of_model(graph: &GraphProto) -> Self {
        let mut scope = Scope { values: HashMap::new(), outer: None };
        scope.add_constants(graph);
        // An initializer that is an input too may be replaced.
        for (index, info) in graph.inputs.iter().enumerate() {
            scope.values.insert(info.name.clone(), Value::input(info, index));
        }
        scope
    }

    /// The values of a graph inside another: a client may have decided what its inputs are.
    pub(super) fn inside(outer: &'a Scope<'a>, graph: &GraphProto) -> Self {
        let mut scope = Scope { values: HashMap::new(), outer: Some(outer) };
        scope.add_constants(graph);
        for info in &graph.inputs {
            let element = info.kind.as_ref().and_then(|kind| kind.tensor.as_ref()).map_or(0, |kind| kind.element);
            scope.values.insert(info.name.clone(), Value { element, ..Value::UNKNOWN });
        }
        scope
    }

    /// The values of a function of the model, which sees nothing but what it is given.
    pub(super) fn of_function(inputs: impl Iterator<Item = (String, Value)>) -> Self {
        Scope { values: inputs.collect(), outer: None }
    }

    fn add_constants(&mut self, graph: &GraphProto) {
        let constants = graph.initializers.iter().map(|tensor| (tensor.name.clone(), Value::constant(tensor)));
        self.values.extend(constants);
    }

    /// The value of that name. An input that is left out is constant.
    pub(super) fn value(&self, name: &str) -> Value {
        if name.is_empty() {
            return Value::CONSTANT;
        }
        let outer = || self.outer.map_or(Value::UNKNOWN, |outer| outer.value(name));
        self.values.get(name).copied().unwrap_or_else(outer)
    }

    /// The inputs of a node.
    pub(super) fn inputs(&self, node: &NodeProto) -> Vec<Value> {
        node.inputs.iter().map(|name| self.value(name)).collect()
    }

    /// Adds what a node gives.
    pub(super) fn add(&mut self, node: &NodeProto, outputs: impl Iterator<Item = Value>) {
        self.values.extend(node.outputs.iter().cloned().zip(outputs));
    }
}

/// Operators whose elements are never -1, whatever their inputs are.
const COUNTS: [&str; 16] = [
    "Abs",
    "Relu",
    "ArgMax",
    "ArgMin",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "IsInf",
    "IsNaN",
    "Less",
    "LessOrEqual",
    "NonZero",
    "Not",
    "Or",
    "And",
    "Xor",
];

/// Operators that pass elements on as they are.
const PASSED_ON: [&str; 12] = [
    "Cast",
    "Concat",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
];

/// Operators whose extents follow from elements, whichever input those are of.
const SIZED_BY_VALUES: [&str; 6] =
    ["Compress", "ConcatFromSequence", "NonMaxSuppression", "NonZero", "StringSplit", "Unique"];

/// Operators whose outputs have one rank, whatever their inputs are.
const OF_ONE_RANK: [&str; 4] = ["Flatten", "Gemm", "NonZero", "Size"];

/// The value of one of a node's outputs. What the graphs inside it give is `inner`, where it has any.
pub(super) fn output(node: &NodeProto, inputs: &[Value], index: usize, inner: Option<Value>) -> Value {
    let operator = node.operator.as_str();
    if operator == "Constant" {
        let tensor = node.attributes.iter().find_map(|attribute| attribute.tensor.as_ref());
        return tensor.map_or(
            Value { element: constant_element(node), minus_one: constant_is_minus_one(node), ..Value::CONSTANT },
            Value::constant,
        );
    }
    let all = inputs.iter().copied().reduce(Value::or).unwrap_or(Value::CONSTANT);
    if let Some(inner) = inner {
        let value = inner.or(all);
        return match operator {
            "If" => Value { open_rank: value.open_rank || has_branches_of_other_ranks(node) && all.is_open(), ..value },
            _ => Value { sized_by_values: true, ..value },
        };
    }
    let mut output = Value { element: element(node, inputs, index), ..all };
    if matches!(operator, "Shape" | "Size") {
        output = Value { by_client: false, minus_one: false, extents: 0, holds: all.extents, ..output };
    } else if COUNTS.contains(&operator) {
        output.minus_one = false;
    } else if !PASSED_ON.contains(&operator) {
        // Arithmetic on constants may give any number, -1 too.
        output.minus_one = true;
    } else if operator != "Concat" {
        output.minus_one = inputs.first().is_none_or(|first| first.minus_one);
        output.by_client = inputs.first().is_none_or(|first| first.by_client);
    }
    match operator {
        "Reshape" => {
            let shape = inputs.get(1).copied().unwrap_or(Value::CONSTANT);
            output.open_rank = shape.has_open_length();
            output.extents |= if shape.by_client { u64::MAX } else { shape.holds };
        }
        "Expand" => output.open_rank |= inputs.get(1).is_some_and(Value::has_open_length),
        "ConstantOfShape" => {
            output.open_rank = inputs.first().is_some_and(Value::has_open_length);
            output.by_client = false;
        }
        // Without axes it drops whatever has the extent 1.
        "Squeeze" if inputs.len() < 2 && !node.attributes.iter().any(|attribute| attribute.name == "axes") => {
            output.open_rank |= all.extents != 0;
        }
        "Squeeze" | "Unsqueeze" => output.open_rank |= inputs.get(1).is_some_and(|axes| axes.by_client),
        _ if OF_ONE_RANK.contains(&operator) => output.open_rank = false,
        _ => {}
    }
    let shape = cost::shape_inputs(node);
    let by_shape = || shape.iter().filter_map(|index| inputs.get(*index));
    output.extents |= by_shape().fold(0, |extents, input| extents | input.holds);
    let is_cut = matches!(operator, "Slice" | "Split" | "TopK") && inputs.iter().skip(1).any(|input| input.by_client);
    if SIZED_BY_VALUES.contains(&operator) || is_cut || by_shape().any(|input| input.by_client) {
        output.extents = u64::MAX;
        output.sized_by_values = true;
    }
    output
}

/// True if one branch of an `If` drops or adds an axis: PyTorch exports such a branch for an extent that may be 1.
fn has_branches_of_other_ranks(node: &NodeProto) -> bool {
    let changes =
        |graph: &GraphProto| graph.nodes.iter().any(|node| matches!(&*node.operator, "Squeeze" | "Unsqueeze"));
    let mut branches = node.attributes.iter().filter_map(|attribute| attribute.graph.as_ref()).map(changes);
    branches.next() != branches.next()
}

impl Value {
    /// True if a client decides anything about it.
    pub(super) fn is_open(&self) -> bool {
        self.by_client || self.extents != 0 || self.holds != 0 || self.open_rank
    }

    /// True if a client decides how many extents a tensor gets that is given this as its shape.
    fn has_open_length(&self) -> bool {
        self.by_client && self.extents != 0 || self.open_rank
    }
}

/// The type of the elements that a node gives.
fn element(node: &NodeProto, inputs: &[Value], index: usize) -> i32 {
    let attribute = |name: &str| node.attributes.iter().find(|attribute| attribute.name == name);
    let of = |index: usize| inputs.get(index).map_or(0, |input| input.element);
    let integer = |name: &str| attribute(name).map(|attribute| i32::try_from(attribute.integer).unwrap_or(0));
    match node.operator.as_str() {
        "Cast" => integer("to").unwrap_or(0),
        "Shape" | "Size" | "ArgMax" | "ArgMin" | "NonZero" | "NonMaxSuppression" => INT64,
        "MatMulInteger" | "ConvInteger" => INT32,
        "Equal" | "Greater" | "GreaterOrEqual" | "IsInf" | "IsNaN" | "Less" | "LessOrEqual" | "Not" | "Or" | "And"
        | "Xor" => BOOL,
        "Where" => of(1),
        "CastLike" | "OneHot" => of(if node.operator == "OneHot" { 2 } else { 1 }),
        "ConstantOfShape" => {
            attribute("value").and_then(|value| value.tensor.as_ref()).map_or(FLOAT, |tensor| tensor.element)
        }
        // Their scale has the type of the output.
        "DequantizeLinear" => of(1),
        "EyeLike" | "RandomNormalLike" | "RandomUniformLike" | "Multinomial" => integer("dtype").unwrap_or(of(0)),
        "TopK" | "Unique" | "StringSplit" if index > 0 => INT64,
        "LabelEncoder" | "If" | "Loop" | "Scan" => 0,
        _ => of(0),
    }
}

/// The type of a `Constant` that is written as an attribute of its own.
fn constant_element(node: &NodeProto) -> i32 {
    match node.attributes.first().map(|attribute| attribute.name.as_str()) {
        Some("value_int" | "value_ints") => INT64,
        Some("value_float" | "value_floats") => FLOAT,
        _ => 0,
    }
}

fn constant_is_minus_one(node: &NodeProto) -> bool {
    node.attributes.iter().any(|attribute| match attribute.name.as_str() {
        "value_int" => attribute.integer == -1,
        "value_ints" => attribute.integers.contains(&-1),
        _ => true,
    })
}
