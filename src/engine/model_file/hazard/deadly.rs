//! The operators of ONNX Runtime 1.31.1 that are known to end the process, and by what. `tests/soak/operators.py` finds them.

use super::{
    super::onnx::{INT32, INT64, NodeProto},
    flow::Value,
};

/// Input of a client by which an operator ends the process.
#[derive(Clone, Copy)]
enum Danger {
    /// The elements of these inputs.
    Elements(&'static [usize]),
    /// The rank of any input: shapes are indexed without a look at how long they are.
    Rank,
    /// Extents of 0 of these inputs, or of any where none is listed. Those of requests are refused; what is left are extents that
    /// follow from elements.
    NoElements(&'static [usize]),
    /// The same of batches without rows.
    NoRows,
    /// The same of no features or no heads. That the past has no length is the first step of a decoder, and works.
    NoFeatures,
    /// Anything about these inputs, which are weights where exporters made the model.
    Anything(&'static [usize]),
}
use Danger::{Anything, Elements, NoElements, NoFeatures, NoRows, Rank};

const MICROSOFT: &str = "com.microsoft";

/// Domain, operator, and its dangers. Integer `Div` and `Mod` are beside it, since they depend on the datatype.
const DEADLY: &[(&str, &str, &[Danger])] = &[
    ("", "AffineGrid", &[Rank]),
    ("", "Attention", &[Rank, NoFeatures]),
    ("", "Concat", &[Rank]),
    // Without channels it never ends.
    ("", "Conv", &[NoElements(&[1])]),
    // Without channels its outputs are memory that nobody wrote.
    ("", "ConvInteger", &[Rank, NoElements(&[1])]),
    ("", "DFT", &[Rank]),
    ("", "Dropout", &[Rank]),
    ("", "Einsum", &[Rank]),
    ("", "GridSample", &[Rank]),
    ("", "GRU", &[Rank, NoElements(&[])]),
    ("", "LSTM", &[Rank, NoElements(&[])]),
    ("", "MaxRoiPool", &[Rank]),
    ("", "Multinomial", &[Rank]),
    ("", "QLinearConv", &[Rank]),
    ("", "ReverseSequence", &[Rank]),
    ("", "RNN", &[Rank, NoElements(&[])]),
    // Frame lengths of 0 divide by zero.
    ("", "STFT", &[Elements(&[1, 3]), Rank, NoElements(&[])]),
    ("", "Unique", &[NoElements(&[])]),
    (MICROSOFT, "Attention", &[Rank, Anything(&[1, 2])]),
    (MICROSOFT, "AttnLSTM", &[Rank, Anything(&[1, 2, 3])]),
    (MICROSOFT, "CropAndResize", &[Anything(&[1, 2, 3])]),
    (MICROSOFT, "DynamicQuantizeLSTM", &[Rank, NoElements(&[])]),
    (MICROSOFT, "DynamicQuantizeMatMul", &[Rank, Anything(&[1, 2, 3, 4])]),
    (MICROSOFT, "FusedConv", &[Rank, Anything(&[1, 2])]),
    (MICROSOFT, "GridSample", &[Rank]),
    (MICROSOFT, "GroupQueryAttention", &[Rank, NoRows]),
    (MICROSOFT, "Inverse", &[Anything(&[0])]),
    (MICROSOFT, "LinearAttention", &[Rank, NoFeatures]),
    (MICROSOFT, "MatMulIntegerToFloat", &[Rank, Anything(&[1, 3, 4, 5, 6])]),
    (MICROSOFT, "MoE", &[Rank, NoFeatures]),
    (MICROSOFT, "MultiHeadAttention", &[Rank, NoFeatures]),
    (MICROSOFT, "QAttention", &[Rank, NoRows]),
];

/// Reason that an operator can end the process with these inputs, for people.
pub(super) fn deadly(node: &NodeProto, inputs: &[Value]) -> Option<String> {
    let domain = standard(&node.domain);
    if domain.is_empty() && matches!(node.operator.as_str(), "Div" | "Mod") {
        return division(inputs)
            .then(|| "divides integers of a request, and the smallest of them divided by -1 can".into());
    }
    let (_, _, dangers) =
        DEADLY.iter().find(|(of, operator, _)| (*of, *operator) == (domain, node.operator.as_str()))?;
    dangers.iter().find_map(|danger| danger.reason(node, inputs))
}

/// Axes of a request's inputs that an operator needs elements on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Needed {
    /// All.
    All,
    /// Axis 0.
    Rows,
    /// The last axis, and axis 1 of four.
    Features,
}

/// True if an operator ends the process, never ends, or leaves outputs unwritten where a request has no elements on these axes.
pub(super) fn needs_elements(node: &NodeProto, inputs: &[Value], needed: Needed) -> bool {
    let of = (standard(&node.domain), node.operator.as_str());
    let depends = |danger: &Danger| match danger {
        NoElements(indices) => needed == Needed::All && (indices.is_empty() || open(node, inputs, indices).is_some()),
        Anything(indices) => needed == Needed::All && open(node, inputs, indices).is_some(),
        NoRows => needed == Needed::Rows,
        NoFeatures => needed == Needed::Features,
        Elements(_) | Rank => false,
    };
    DEADLY.iter().any(|(domain, operator, dangers)| (*domain, *operator) == of && dangers.iter().any(depends))
}

/// ONNX's own domain has two names.
fn standard(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// True if integers of a client are divided by what may be -1. The processor traps where that is done to the smallest.
fn division(inputs: &[Value]) -> bool {
    let [dividend, divisor, ..] = inputs else { return false };
    // 0: not known.
    let is_wide = |value: &Value| matches!(value.element, INT32 | INT64 | 0);
    is_wide(dividend) && is_wide(divisor) && dividend.by_client && divisor.minus_one
}

/// The input that a node is given at an index, if it is.
fn given<'a>(node: &NodeProto, inputs: &'a [Value], index: usize) -> Option<&'a Value> {
    node.inputs.get(index).filter(|name| !name.is_empty()).and(inputs.get(index))
}

/// The first of these inputs of which a client decides anything.
fn open(node: &NodeProto, inputs: &[Value], indices: &[usize]) -> Option<usize> {
    indices.iter().copied().find(|index| given(node, inputs, *index).is_some_and(Value::is_open))
}

impl Danger {
    fn reason(self, node: &NodeProto, inputs: &[Value]) -> Option<String> {
        match self {
            Elements(indices) => {
                let by_client = |index: &&usize| given(node, inputs, **index).is_some_and(|input| input.by_client);
                let index = indices.iter().find(by_client)?;
                Some(format!("takes elements of a request as its input {index}, and some of them can"))
            }
            Rank => {
                let open = inputs.iter().any(|input| input.open_rank);
                open.then(|| "takes an input whose rank the model does not declare, and some ranks can".into())
            }
            NoRows | NoFeatures => NoElements(&[]).reason(node, inputs),
            NoElements(indices) => {
                let mut listed =
                    inputs.iter().enumerate().filter(|(index, _)| indices.is_empty() || indices.contains(index));
                let empty = listed.any(|(_, input)| input.sized_by_values);
                empty.then(|| "takes an input whose extents follow from elements, and extents of 0 can".into())
            }
            Anything(indices) => {
                let index = open(node, inputs, indices)?;
                Some(format!("takes what a request holds as its input {index}, and some of it can"))
            }
        }
    }
}
