//! The rule of each operator.

use super::{
    super::{
        super::onnx::NodeProto,
        symbols::Symbols,
        value::{Flow, Value},
    },
    attention, classical, cutting, elementwise, gather, layout,
    op::{Op, Ruled, SymbolicShape, mixes, unproven},
    products, quantized, recurrent, reductions, reshape, samples, sized,
};

/// True if ONNX Runtime has kernels of a domain.
pub(in crate::engine::model_file::row_proof) fn is_domain_of_kernels(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx" | "ai.onnx.ml") || domain.starts_with("com.microsoft")
}

/// Applies the rule of the node's operator.
///
/// # Errors
/// Rows mix, or the operator has no rule for such inputs.
pub(in crate::engine::model_file::row_proof) fn apply(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Vec<Value>> {
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
pub(in crate::engine::model_file::row_proof) fn constant_shape(
    op: &Op<'_>,
    symbols: &mut Symbols,
) -> Option<SymbolicShape> {
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
    let NodeProto { domain, operator, .. } = op.node;
    let of = if domain.is_empty() { String::new() } else { format!(" of {domain}") };
    unproven(format!("nothing is known of the operator {operator}{of}"))
}
