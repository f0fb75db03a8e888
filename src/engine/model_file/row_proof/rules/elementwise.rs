//! Operators that compute each element of the output from the elements at its place in the inputs, with broadcasting.

use std::rc::Rc;

use super::{
    super::{
        super::onnx::{BOOL, INT32, INT64},
        extent::Extent,
        node_names::shown,
        symbols::Symbols,
        value::{Cause, Flow, Rows, Value},
    },
    Op, Ruled, SymbolicShape, arithmetic, mixes, unproven,
};

/// True if an operator of ONNX computes element by element.
pub(super) fn is_elementwise(operator: &str) -> bool {
    matches!(
        operator,
        "Abs"
            | "Acos"
            | "Acosh"
            | "Add"
            | "And"
            | "Asin"
            | "Asinh"
            | "Atan"
            | "Atanh"
            | "BitCast"
            | "BitShift"
            | "BitwiseAnd"
            | "BitwiseNot"
            | "BitwiseOr"
            | "BitwiseXor"
            | "Ceil"
            | "Celu"
            | "Clip"
            | "Cos"
            | "Cosh"
            | "Div"
            | "Elu"
            | "Equal"
            | "Erf"
            | "Exp"
            | "Floor"
            | "Gelu"
            | "Greater"
            | "GreaterOrEqual"
            | "HardSigmoid"
            | "HardSwish"
            | "IsInf"
            | "IsNaN"
            | "LeakyRelu"
            | "Less"
            | "LessOrEqual"
            | "Log"
            | "Max"
            | "Mean"
            | "Min"
            | "Mish"
            | "Mod"
            | "Mul"
            | "Neg"
            | "Not"
            | "Or"
            | "PRelu"
            | "Pow"
            | "Reciprocal"
            | "RegexFullMatch"
            | "Relu"
            | "Round"
            | "Selu"
            | "Shrink"
            | "Sigmoid"
            | "Sign"
            | "Sin"
            | "Sinh"
            | "Softplus"
            | "Softsign"
            | "Sqrt"
            | "StringConcat"
            | "Sub"
            | "Sum"
            | "Swish"
            | "Tan"
            | "Tanh"
            | "ThresholdedRelu"
            | "Where"
            | "Xor"
    )
}

/// True if an operator of `com.microsoft` computes element by element.
pub(super) fn is_elementwise_of_microsoft(operator: &str) -> bool {
    matches!(operator, "BiasGelu" | "FastGelu" | "Gelu" | "MurmurHash3" | "QuickGelu" | "BiasSoftplus")
}

pub(super) fn apply(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Vec<Value>> {
    // Before it was by an attribute that axes were aligned.
    if op.opset < 7 && op.node.domain.is_empty() && op.attribute("axis").is_some() {
        return unproven("broadcasting by an attribute 'axis' is not followed");
    }
    if let Some(positions) = positions_of_parts(op, symbols) {
        return Ok(vec![positions]);
    }
    let operands: Vec<usize> = (0..op.inputs.len()).filter(|index| op.input(*index).is_some()).collect();
    let (flow, shape) = broadcast(op, &operands, symbols)?;
    // ONNX Runtime takes the shape of the first input for that of the output.
    let is_one_sided =
        matches!(&*op.node.operator, "BiasGelu" | "BitShift" | "Clip" | "FastGelu" | "PRelu" | "BiasSoftplus");
    if is_one_sided && matches!(flow, Flow::Rows(_)) && op.required(0)?.shape != shape {
        return unproven(format!("'{}' has another shape than the output", op.name(0)));
    }
    let element = match op.node.operator.as_str() {
        "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "Not" | "And" | "Or" | "Xor" | "IsNaN"
        | "IsInf" | "RegexFullMatch" => BOOL,
        "Where" => op.element(1),
        "MurmurHash3" => 0,
        _ => op.element(0),
    };
    let value = Value::of(flow, shape, element);
    if !value.is_without_rows() {
        return Ok(vec![value]);
    }
    Ok(vec![arithmetic::compute(op, &value, symbols).unwrap_or(value)])
}

/// The flow and the shape of what is computed element by element from some of a node's inputs.
pub(super) fn broadcast(
    op: &Op<'_>,
    operands: &[usize],
    symbols: &mut Symbols,
) -> Ruled<(Flow, Option<SymbolicShape>)> {
    let values = || operands.iter().filter_map(|index| Some((*index, op.input(*index)?)));
    // Alone it needs no rank: the rows stay where they are.
    if let [index] = operands
        && let Some(value) = op.input(*index)
    {
        return match &value.flow {
            Flow::Positions { .. } | Flow::RowTuples { .. } => Ok((of_positions(op, *index), value.shape.clone())),
            flow => Ok((flow.clone(), value.shape.clone())),
        };
    }
    if values().all(|(_, value)| value.is_without_rows()) {
        let shapes: Option<Vec<&SymbolicShape>> = values().map(|(_, value)| value.shape.as_ref()).collect();
        let of_batch = values().any(|(_, value)| matches!(value.flow, Flow::BatchSize));
        let flow = if of_batch { Flow::BatchSize } else { Flow::Constant };
        return Ok((flow, shapes.map(|shapes| broadcast_shapes(&shapes, symbols))));
    }
    let shapes = operands.iter().map(|index| op.shape(*index)).collect::<Ruled<Vec<&SymbolicShape>>>()?;
    let shape = broadcast_shapes(&shapes, symbols);
    let mut found: Option<(usize, Rows)> = None;
    for (index, value) in values() {
        let ahead = shape.len() - value.rank().unwrap_or(0);
        match &value.flow {
            Flow::Rows(rows) => {
                let rows = rows.at(rows.axis + ahead);
                match &found {
                    None => found = Some((index, rows)),
                    Some((_, first)) if *first == rows => {}
                    Some((other, first)) if first.axis != rows.axis => {
                        return mixes(format!(
                            "each row of '{}' meets each row of '{}'",
                            op.name(*other),
                            op.name(index)
                        ));
                    }
                    Some((other, _)) => {
                        return unproven(format!(
                            "'{}' and '{}' have different numbers of entries for a row",
                            op.name(*other),
                            op.name(index)
                        ));
                    }
                }
            }
            Flow::Positions { .. } | Flow::RowTuples { .. } => return Ok((of_positions(op, index), Some(shape))),
            Flow::BatchSize => {
                return mixes(format!(
                    "'{}', which the number of rows decides, meets elements of rows",
                    op.name(index)
                ));
            }
            _ => {}
        }
    }
    // ONNX Runtime's fusions take a constant of one element for a scalar, and lose its axes.
    let most = values().filter_map(|(_, value)| value.as_rows().and(value.rank())).max().unwrap_or(0);
    let is_padded_scalar = |value: &Value| {
        value.as_rows().is_none()
            && value.shape.as_ref().is_some_and(|shape| shape.len() > most && shape.iter().all(Extent::is_one))
    };
    if let Some((index, _)) = values().find(|(_, value)| is_padded_scalar(value)) {
        return unproven(format!("'{}' has one element and more axes than what it meets", op.name(index)));
    }
    let Some((first, rows)) = found else { return unproven("none of its inputs holds rows") };
    for (index, value) in values().filter(|(_, value)| value.as_rows().is_none()) {
        meets_all_rows_alike(op, (index, value), &rows, shape.len(), first)?;
    }
    Ok((Flow::Rows(rows), Some(shape)))
}

/// A tensor without rows must not have entries along the rows' axis: they would belong to positions in the batch.
fn meets_all_rows_alike(
    op: &Op<'_>,
    (index, value): (usize, &Value),
    rows: &Rows,
    rank: usize,
    first: usize,
) -> Ruled<()> {
    let Some(shape) = &value.shape else { return unproven(format!("the rank of '{}' is not known", op.name(index))) };
    let axis = (rows.axis + shape.len()).checked_sub(rank);
    match axis.and_then(|axis| shape.get(axis)) {
        None | Some(Extent::Number(1)) => Ok(()),
        Some(_) => unproven(format!(
            "'{}', which holds no rows, has entries along the axis of '{}' that holds them",
            op.name(index),
            op.name(first)
        )),
    }
}

/// The flow of what is computed of positions: the shape is known, the elements are none of a row alone.
fn of_positions(op: &Op<'_>, index: usize) -> Flow {
    let why = format!("the position of a row in the batch is computed with, which '{}' holds", op.name(index));
    Flow::Mixed(Rc::new(Cause { node: shown(op.node), why }))
}

/// Places in a table of which each row has as many entries: positions times that number, or with a place of the row's own more.
fn positions_of_parts(op: &Op<'_>, symbols: &mut Symbols) -> Option<Value> {
    let (first, second) = (op.input(0)?, op.input(1)?);
    let swapped = matches!(second.flow, Flow::Positions { .. });
    let (positions, other) = if swapped { (second, first) } else { (first, second) };
    let Flow::Positions { axis, stride, has_own_part: false } = &positions.flow else { return None };
    let shape = broadcast_shapes(&[positions.shape.as_ref()?, other.shape.as_ref()?], symbols);
    let rank = shape.len();
    let axis = axis + rank - positions.rank()?;
    let is_shared = || {
        let own = (axis + other.rank()?).checked_sub(rank);
        Some(own.is_none_or(|own| other.shape.as_ref().is_some_and(|shape| shape[own].is_one())))
    };
    let (stride, has_own_part) = match op.node.operator.as_str() {
        "Mul" if other.is_constant() && is_shared()? => (symbols.mul(stride, other.scalar()?), false),
        "Add" => {
            let is_own = match &other.flow {
                Flow::Constant => is_shared()?,
                Flow::Rows(rows) => rows.at(rows.axis + rank - other.rank()?) == Rows::along(axis),
                _ => false,
            };
            let below = other.below.as_ref()?;
            let is_within = below == stride || symbols.is_less(stride, below) == Some(false);
            if !is_own || !is_within {
                return None;
            }
            (stride.clone(), true)
        }
        _ => return None,
    };
    Some(Value::of(Flow::Positions { axis, stride, has_own_part }, Some(shape), positions.element))
}

fn broadcast_shapes(shapes: &[&SymbolicShape], symbols: &mut Symbols) -> SymbolicShape {
    let rank = shapes.iter().map(|shape| shape.len()).max().unwrap_or(0);
    let extent = |axis: usize, symbols: &mut Symbols| {
        shapes.iter().fold(Extent::ONE, |extent, shape| match (axis + shape.len()).checked_sub(rank) {
            Some(own) => symbols.broadcast(&extent, &shape[own]),
            None => extent,
        })
    };
    (0..rank).map(|axis| extent(axis, symbols)).collect()
}

/// The first input, as it is or with elements of another type.
pub(super) fn pass(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Vec<Value>> {
    let value = op.required(0)?.clone();
    let element = match op.node.operator.as_str() {
        "Cast" => i32::try_from(op.integer("to", 0)).unwrap_or(0),
        "CastLike" => op.element(1),
        _ => value.element,
    };
    if op.node.operator == "Dropout" && op.opset >= 12 {
        let training = op.input(2).map(|training| training.scalar().and_then(Extent::number));
        if !matches!(training, None | Some(Some(0))) {
            return mixes("its output is random in training mode");
        }
    }
    if op.node.operator == "Dropout" && op.opset < 7 && op.integer("is_test", 0) == 0 {
        return mixes("its output is random in training mode");
    }
    let mask = Value { element: BOOL, ..value.computed() };
    // Narrower types would wrap around.
    let is_kept = value.element == element || matches!((value.element, element), (INT32 | INT64, INT32 | INT64));
    if !is_kept {
        let flow = match &value.flow {
            Flow::Positions { .. } | Flow::RowTuples { .. } => of_positions(op, 0),
            flow => flow.clone(),
        };
        let data = value.data.as_ref().map(|data| arithmetic::cast(data, element, symbols));
        return Ok(vec![Value { data, ..Value::of(flow, value.shape, element) }, mask]);
    }
    let data = value.data.as_ref().map(|data| arithmetic::cast(data, element, symbols));
    Ok(vec![Value { data, element, ..value }, mask])
}

/// The first input, with each element made another one.
pub(super) fn mapped(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Vec<Value>> {
    let (flow, shape) = broadcast(op, &[0], symbols)?;
    Ok(vec![Value::of(flow, shape, 0)])
}

impl Value {
    /// The same elements in another shape.
    pub(super) fn with_shape(&self, shape: Rc<[Extent]>) -> Value {
        Value { shape: Some(shape), ..self.clone() }
    }
}
