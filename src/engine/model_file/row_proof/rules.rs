//! Rules of the operators: from the values of a node's inputs to those of its outputs.

mod arithmetic;
mod attention;
mod classical;
mod cutting;
mod elementwise;
mod gather;
mod layout;
mod products;
mod quantized;
mod recurrent;
mod reductions;
mod reshape;
mod samples;
mod sized;

use std::rc::Rc;

use super::{
    super::onnx::{Attribute, Node},
    extent::Extent,
    symbols::Symbols,
    value::{Flow, Rows, Value},
};

/// Elements that are known of a tensor at most: shapes are short.
pub(super) const MAX_ELEMENTS: usize = 64;

/// Axes of a tensor at most.
const MAX_RANK: usize = 32;

/// A node with the values of its inputs.
pub(super) struct Op<'a> {
    pub node: &'a Node,
    /// `None` for an input that is left out.
    pub inputs: Vec<Option<Value>>,
    /// Version of the operator set that the node's domain is imported with.
    pub opset: i64,
}

/// The reason that rows are not followed through a node.
#[derive(Debug)]
pub(super) enum Blame {
    /// A row may decide another row's part.
    Mixes(String),
    /// The rules don't know.
    Unproven(String),
}

pub(super) type Ruled<T> = Result<T, Blame>;

pub(super) fn mixes<T>(why: impl Into<String>) -> Ruled<T> {
    Err(Blame::Mixes(why.into()))
}

pub(super) fn unproven<T>(why: impl Into<String>) -> Ruled<T> {
    Err(Blame::Unproven(why.into()))
}

/// The shape of a tensor.
type Shape = Rc<[Extent]>;

impl Op<'_> {
    fn input(&self, index: usize) -> Option<&Value> {
        self.inputs.get(index)?.as_ref()
    }

    fn required(&self, index: usize) -> Ruled<&Value> {
        self.input(index).map_or_else(|| unproven(format!("it has no input {index}")), Ok)
    }

    /// The name of an input, for people.
    fn name(&self, index: usize) -> &str {
        self.node.inputs.get(index).map_or("", String::as_str)
    }

    fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.node.attributes.iter().find(|attribute| attribute.name == name)
    }

    fn integer(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |attribute| attribute.integer)
    }

    fn integers(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|attribute| attribute.integers.as_slice())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.attribute(name).and_then(|attribute| std::str::from_utf8(&attribute.string).ok())
    }

    /// The shape of an input.
    fn shape(&self, index: usize) -> Ruled<&Shape> {
        // More axes are no tensors, but work.
        let shape = self.required(index)?.shape.as_ref().filter(|shape| shape.len() <= MAX_RANK);
        shape.map_or_else(|| unproven(format!("the rank of '{}' is not known", self.name(index))), Ok)
    }

    /// An axis, counted from the end where it is negative.
    fn axis(&self, axis: i64, rank: usize) -> Ruled<usize> {
        let counted = if axis < 0 { axis + rank as i64 } else { axis };
        match usize::try_from(counted) {
            Ok(counted) if counted < rank => Ok(counted),
            _ => unproven(format!("axis {axis} is none of {rank}")),
        }
    }

    /// Axes that an attribute says, or an input from some operator set on; `None` where neither does.
    fn axes(&self, input: usize) -> Ruled<Option<Vec<i64>>> {
        if let Some(axes) = self.integers("axes") {
            return if axes.len() > MAX_RANK { unproven("it names too many axes") } else { Ok(Some(axes.to_vec())) };
        }
        match self.input(input) {
            None => Ok(None),
            Some(value) => self.numbers_of(value, input).map(Some),
        }
    }

    /// Elements of an input that say how the operator works.
    fn numbers(&self, index: usize) -> Ruled<Vec<i64>> {
        self.numbers_of(self.required(index)?, index)
    }

    fn numbers_of(&self, value: &Value, index: usize) -> Ruled<Vec<i64>> {
        self.holds_no_rows(value, index)?;
        let numbers = value.numbers();
        numbers.map_or_else(|| unproven(format!("the elements of '{}' are not known", self.name(index))), Ok)
    }

    /// Elements of a shape that an input gives.
    fn extents(&self, index: usize) -> Ruled<Rc<[Extent]>> {
        let value = self.required(index)?;
        self.holds_no_rows(value, index)?;
        let known = value.data.clone();
        known.map_or_else(|| unproven(format!("the elements of '{}' are not known", self.name(index))), Ok)
    }

    /// An input that decides for all rows must not come from them.
    fn holds_no_rows(&self, value: &Value, index: usize) -> Ruled<()> {
        match &value.flow {
            Flow::Constant => return Ok(()),
            Flow::BatchSize if value.data.is_some() => return Ok(()),
            Flow::BatchSize => return mixes(format!("the number of rows decides '{}'", self.name(index))),
            _ => {}
        }
        mixes(format!("'{}', which rows of the batch decide, decides for all of them", self.name(index)))
    }

    /// An input that must be the same in every run.
    fn must_be_constant(&self, index: usize) -> Ruled<()> {
        match self.input(index) {
            None => Ok(()),
            Some(value) if value.is_constant() => Ok(()),
            Some(value) if matches!(value.flow, Flow::BatchSize) => {
                mixes(format!("the number of rows decides '{}'", self.name(index)))
            }
            Some(_) => unproven(format!("'{}' is not constant", self.name(index))),
        }
    }

    fn must_all_be_constant(&self, indices: impl IntoIterator<Item = usize>) -> Ruled<()> {
        indices.into_iter().try_for_each(|index| self.must_be_constant(index))
    }

    /// The parts of the rows in an input that has some.
    fn rows(&self, index: usize) -> Ruled<&Rows> {
        let value = self.required(index)?;
        match &value.flow {
            Flow::Rows(rows) => Ok(rows),
            Flow::Positions { .. } | Flow::RowTuples { .. } => {
                mixes(format!("'{}' holds the positions of rows in the batch", self.name(index)))
            }
            Flow::Padded(..) => mixes(format!("'{}' is padded to the longest row of the batch", self.name(index))),
            _ => unproven(format!("'{}' does not hold rows where other inputs do", self.name(index))),
        }
    }

    /// True if an input holds rows.
    fn has_rows(&self, index: usize) -> bool {
        self.input(index).is_some_and(|value| value.as_rows().is_some())
    }

    /// Type of the elements of an input.
    fn element(&self, index: usize) -> i32 {
        self.input(index).map_or(0, |value| value.element)
    }

    /// Says that the operator takes the entries of an axis together.
    fn takes_rows_together<T>(&self, index: usize, axis: usize) -> Ruled<T> {
        let (operator, name) = (&self.node.operator, self.name(index));
        mixes(format!(
            "{operator} takes the entries along axis {axis} of '{name}' together, which are the rows of the batch"
        ))
    }
}

/// True if ONNX Runtime has kernels of a domain.
pub(super) fn is_domain_of_kernels(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx" | "ai.onnx.ml") || domain.starts_with("com.microsoft")
}

/// Applies the rule of the node's operator.
///
/// # Errors
/// Rows mix, or the operator has no rule for such inputs.
pub(super) fn apply(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Vec<Value>> {
    let operator = op.node.operator.as_str();
    let is_padded = |value: &Value| matches!(value.flow, Flow::Padded(..));
    if let Some(index) = op.inputs.iter().position(|value| value.as_ref().is_some_and(is_padded))
        && !matches!(operator, "Identity" | "Reshape" | "Flatten" | "TfIdfVectorizer")
    {
        return mixes(format!("'{}' is padded to the longest row of the batch", op.name(index)));
    }
    match op.node.domain.as_str() {
        "" | "ai.onnx" => match operator {
            _ if elementwise::is_elementwise(operator) => elementwise::apply(op, symbols),
            "Identity" | "Cast" | "CastLike" | "Dropout" | "Optional" => elementwise::pass(op, symbols),
            "Shape" | "Size" | "ConstantOfShape" | "Range" | "EyeLike" => sized::apply(op, symbols),
            "Transpose" | "Squeeze" | "Unsqueeze" | "Concat" | "Expand" | "Tile" => layout::apply(op, symbols),
            "Reshape" | "Flatten" => reshape::apply(op, symbols),
            "Slice" | "Split" | "Pad" | "Trilu" | "ReverseSequence" | "Compress" | "TopK" | "OneHot" => {
                cutting::apply(op, symbols)
            }
            "Gather" | "GatherElements" | "GatherND" | "ScatterElements" | "Scatter" | "ScatterND" => {
                gather::apply(op, symbols)
            }
            "MatMul" | "Gemm" | "Einsum" | "Det" => products::apply(op, symbols),
            "DFT" => reductions::fourier(op, symbols),
            "QuantizeLinear" | "DequantizeLinear" | "QLinearMatMul" | "MatMulInteger" | "DynamicQuantizeLinear" => {
                quantized::apply(op, symbols)
            }
            "RNN" | "LSTM" | "GRU" => recurrent::apply(op, symbols),
            "Attention" | "RotaryEmbedding" => attention::apply(op, symbols),
            "TfIdfVectorizer" | "StringNormalizer" | "StringSplit" => classical::text(op, symbols),
            "RandomNormal" | "RandomUniform" | "RandomNormalLike" | "RandomUniformLike" | "Bernoulli"
            | "Multinomial" => mixes("its output is random"),
            "NonZero" | "Unique" | "NonMaxSuppression" => {
                mixes(format!("the extents of what {operator} gives depend on the elements of all rows"))
            }
            _ if reductions::has_rule(operator) => reductions::apply(op, symbols),
            _ if samples::has_rule(operator) => samples::apply(op, symbols),
            _ => no_rule(op),
        },
        "ai.onnx.ml" => classical::apply(op, symbols),
        "com.microsoft" => match operator {
            _ if elementwise::is_elementwise_of_microsoft(operator) => elementwise::apply(op, symbols),
            _ if quantized::has_rule_of_microsoft(operator) => quantized::apply(op, symbols),
            _ if attention::has_rule_of_microsoft(operator) => attention::apply(op, symbols),
            _ if samples::has_rule_of_microsoft(operator) => samples::apply(op, symbols),
            "FusedMatMul" | "TransposeMatMul" | "FusedGemm" | "MatMulNBits" | "CDist" | "Inverse" => {
                products::apply(op, symbols)
            }
            "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization" | "SimplifiedLayerNormalization" => {
                reductions::apply(op, symbols)
            }
            "ExpandDims" | "Trilu" | "Pad" | "Unique" => match operator {
                "Unique" => mixes("the extents of what Unique gives depend on the elements of all rows"),
                "ExpandDims" => layout::apply(op, symbols),
                _ => cutting::apply(op, symbols),
            },
            "Tokenizer" => classical::tokenizer(op, symbols),
            _ => no_rule(op),
        },
        _ => no_rule(op),
    }
}

/// The shape of a constant that an operator computes, where it is known without the operator's rule: the proof needs ranks.
pub(super) fn constant_shape(op: &Op<'_>, symbols: &mut Symbols) -> Option<Shape> {
    let first = op.input(0)?.shape.clone()?;
    let mut of_rank = |rank: usize| Some((0..rank).map(|_| symbols.extent()).collect());
    let operator = op.node.operator.as_str();
    match operator {
        "GatherElements" => op.input(1)?.shape.clone(),
        "ScatterElements" | "ScatterND" | "LayerNormalization" => Some(first),
        "AffineGrid" | "Col2Im" => None,
        "Compress" if op.attribute("axis").is_none() => of_rank(1),
        "Resize" | "Upsample" | "TopK" | "Compress" | "Slice" | "Pad" | "Tile" | "Concat" => of_rank(first.len()),
        _ if samples::has_rule(operator) => of_rank(first.len()),
        _ if operator.starts_with("Reduce") || matches!(operator, "ArgMax" | "ArgMin") => {
            reductions::constant_shape(op, &first)
        }
        _ => None,
    }
}

fn no_rule(op: &Op<'_>) -> Ruled<Vec<Value>> {
    let Node { domain, operator, .. } = op.node;
    let of = if domain.is_empty() { String::new() } else { format!(" of {domain}") };
    unproven(format!("nothing is known of the operator {operator}{of}"))
}
