//! The operators of ONNX Runtime 1.31.1 that are known to end the process, and by what. `tests/soak/operators.py` finds them.

use super::{
    super::onnx::{INT32, INT64, Node},
    flow::Value,
};

/// What has to come from a client for an operator to end the process.
#[derive(Clone, Copy)]
enum Danger {
    /// The elements of these inputs.
    Elements(&'static [usize]),
    /// The rank of any input: shapes are indexed without a look at how long they are.
    Rank,
    /// Extents of 0 that follow from elements. Those of requests are refused where they are not known to be safe.
    NoElements,
    /// Anything about these inputs, which are weights where exporters made the model.
    Anything(&'static [usize]),
}
use Danger::{Anything, Elements, NoElements, Rank};

const MICROSOFT: &str = "com.microsoft";

/// Domain, operator, and its dangers. Integer `Div` and `Mod` are beside it, since they depend on the datatype.
const DEADLY: &[(&str, &str, &[Danger])] = &[
    ("", "AffineGrid", &[Rank]),
    ("", "Attention", &[Rank, NoElements]),
    ("", "Concat", &[Rank]),
    ("", "ConvInteger", &[Rank]),
    ("", "DFT", &[Rank]),
    ("", "Dropout", &[Rank]),
    ("", "Einsum", &[Rank]),
    ("", "GridSample", &[Rank]),
    ("", "GRU", &[Rank, NoElements]),
    ("", "LSTM", &[Rank, NoElements]),
    ("", "MaxRoiPool", &[Rank]),
    ("", "Multinomial", &[Rank]),
    ("", "QLinearConv", &[Rank]),
    ("", "ReverseSequence", &[Rank]),
    ("", "RNN", &[Rank, NoElements]),
    // Frame lengths of 0 divide by zero.
    ("", "STFT", &[Elements(&[1, 3]), Rank, NoElements]),
    ("", "Unique", &[NoElements]),
    (MICROSOFT, "Attention", &[Rank, Anything(&[1, 2]), NoElements]),
    (MICROSOFT, "AttnLSTM", &[Rank, Anything(&[1, 2, 3])]),
    (MICROSOFT, "CropAndResize", &[Anything(&[1, 2, 3])]),
    (MICROSOFT, "DynamicQuantizeMatMul", &[Rank, Anything(&[1, 2, 3, 4])]),
    (MICROSOFT, "FusedConv", &[Rank, Anything(&[1, 2])]),
    (MICROSOFT, "GridSample", &[Rank]),
    (MICROSOFT, "Inverse", &[Anything(&[0])]),
    (MICROSOFT, "MatMulIntegerToFloat", &[Rank, Anything(&[1, 3, 4, 5, 6])]),
];

/// How an operator can end the process by what it is given here, for people.
pub(super) fn deadly(node: &Node, inputs: &[Value]) -> Option<String> {
    let domain = standard(&node.domain);
    if domain.is_empty() && matches!(node.operator.as_str(), "Div" | "Mod") {
        return division(inputs)
            .then(|| "divides integers of a request, and the smallest of them divided by -1 can".into());
    }
    let (_, _, dangers) =
        DEADLY.iter().find(|(of, operator, _)| (*of, *operator) == (domain, node.operator.as_str()))?;
    dangers.iter().find_map(|danger| danger.reason(node, inputs))
}

/// Operators that end the process, or leave outputs unwritten, where an input has no elements.
pub(super) fn needs_elements(node: &Node) -> bool {
    let of = (standard(&node.domain), node.operator.as_str());
    // Its outputs would be memory that nobody wrote.
    const UNWRITTEN: [(&str, &str); 1] = [("", "ConvInteger")];
    let dies = |(domain, operator, dangers): &&(&str, &str, &[Danger])| {
        (*domain, *operator) == of && dangers.iter().any(|danger| matches!(danger, NoElements | Anything(_)))
    };
    UNWRITTEN.contains(&of) || DEADLY.iter().any(|entry| dies(&entry))
}

/// ONNX's own domain has two names.
fn standard(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// Whether integers of a client are divided by what may be -1. The processor traps where that is done to the smallest.
fn division(inputs: &[Value]) -> bool {
    let [dividend, divisor, ..] = inputs else { return false };
    // 0: not known.
    let is_wide = |value: &Value| matches!(value.element, INT32 | INT64 | 0);
    is_wide(dividend) && is_wide(divisor) && dividend.by_client && divisor.minus_one
}

impl Danger {
    fn reason(self, node: &Node, inputs: &[Value]) -> Option<String> {
        let given = |index: usize| node.inputs.get(index).filter(|name| !name.is_empty()).and(inputs.get(index));
        match self {
            Elements(indices) => {
                let index = indices.iter().find(|index| given(**index).is_some_and(|input| input.by_client))?;
                Some(format!("takes elements of a request as its input {index}, and some of them can"))
            }
            Rank => {
                let open = inputs.iter().any(|input| input.open_rank);
                open.then(|| "takes an input whose rank the model does not declare, and some ranks can".into())
            }
            NoElements => {
                let empty = inputs.iter().any(|input| input.sized_by_values);
                empty.then(|| "takes an input whose extents follow from elements, and extents of 0 can".into())
            }
            Anything(indices) => {
                let is_open = |input: &Value| input.by_client || input.extents != 0 || input.open_rank;
                let index = indices.iter().find(|index| given(**index).is_some_and(is_open))?;
                Some(format!("takes what a request holds as its input {index}, and some of it can"))
            }
        }
    }
}
