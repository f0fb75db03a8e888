//! Operators that take the entries along some axes together: those must not be the rows'.

use super::{
    super::{
        super::onnx::INT64,
        extent::Extent,
        symbols::Symbols,
        value::{Flow, Value},
    },
    Op, Ruled, SymbolicShape, arithmetic, elementwise, mixes, unproven,
};

/// True if an operator of ONNX is one of these.
pub(super) fn has_rule(operator: &str) -> bool {
    operator.starts_with("Reduce")
        || matches!(
            operator,
            "ArgMax"
                | "ArgMin"
                | "CumProd"
                | "CumSum"
                | "Hardmax"
                | "LayerNormalization"
                | "LogSoftmax"
                | "LpNormalization"
                | "MeanVarianceNormalization"
                | "RMSNormalization"
                | "SimplifiedLayerNormalization"
                | "Softmax"
        )
}

pub(super) fn apply(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Vec<Value>> {
    match op.node.operator.as_str() {
        "ArgMax" | "ArgMin" => {
            let named = op.integer("axis", 0);
            let axis = op.axis(named, op.shape(0)?.len())?;
            let value = reduced(op, &[named], symbols)?;
            let below = Some(op.shape(0)?[axis].clone());
            Ok(vec![Value { element: INT64, below, ..value }])
        }
        "Softmax" | "LogSoftmax" | "Hardmax" => softmax(op),
        "CumSum" | "CumProd" => {
            let axis = op.numbers(1)?.first().copied().unwrap_or(0);
            along(op, axis)
        }
        "LpNormalization" => along(op, op.integer("axis", -1)),
        "MeanVarianceNormalization" => {
            let axes = op.integers("axes").unwrap_or(&[0, 2, 3]).to_vec();
            axes.into_iter().try_fold(Vec::new(), |_, axis| along(op, axis))
        }
        "LayerNormalization" | "RMSNormalization" | "SimplifiedLayerNormalization" => layer_norm(op),
        "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization" => skip_layer_norm(op, symbols),
        _ => reduce(op, symbols).map(|value| vec![value]),
    }
}

/// Entries along one axis are taken together, and the shape stays.
fn along(op: &Op<'_>, axis: i64) -> Ruled<Vec<Value>> {
    let value = op.required(0)?;
    if value.is_constant() {
        return Ok(vec![value.computed()]);
    }
    let rows = op.rows(0)?;
    let axis = op.axis(axis, op.shape(0)?.len())?;
    if rows.axis == axis { op.takes_rows_together(0, axis) } else { Ok(vec![value.computed()]) }
}

fn softmax(op: &Op<'_>) -> Ruled<Vec<Value>> {
    if op.opset >= 13 {
        return along(op, op.integer("axis", -1));
    }
    // Before it was over all axes from that one on.
    let (value, rows) = (op.required(0)?, op.rows(0)?);
    let axis = op.axis(op.integer("axis", 1), op.shape(0)?.len())?;
    if rows.axis >= axis { op.takes_rows_together(0, rows.axis) } else { Ok(vec![value.computed()]) }
}

fn reduce(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Value> {
    let rank = op.shape(0)?.len();
    let axes = match op.axes(1)?.filter(|axes| !axes.is_empty()) {
        Some(axes) => axes,
        None if op.integer("noop_with_empty_axes", 0) == 1 => return op.required(0).map(Value::computed),
        None => (0..rank as i64).collect(),
    };
    let value = op.required(0)?;
    if value.is_without_rows() {
        return reduced_elements(op, value, axes.len() == rank, symbols);
    }
    reduced(op, &axes, symbols)
}

/// The product or sum over all of a short list, such as the number of elements that a shape has.
fn reduced_elements(op: &Op<'_>, value: &Value, is_whole: bool, symbols: &mut Symbols) -> Ruled<Value> {
    let Some(data) = value.data.as_ref().filter(|_| is_whole) else {
        return unproven(format!("which elements of '{}' are taken together is not known", op.name(0)));
    };
    let known = match op.node.operator.as_str() {
        "ReduceProd" => Some(symbols.product(&**data)),
        "ReduceSum" => Some(data.iter().fold(Extent::ZERO, |sum, element| symbols.add(&sum, element))),
        _ => None,
    };
    let is_exact = |extent: &Extent, symbols: &Symbols| arithmetic::holds(value.element, extent, symbols);
    let are_exact = data.iter().all(|element| is_exact(element, symbols));
    let reduced = known.filter(|known| are_exact && is_exact(known, symbols)).unwrap_or_else(|| {
        let of_batch = data.iter().any(|element| symbols.is_of_batch(element));
        symbols.element(of_batch)
    });
    let rank = if op.integer("keepdims", 1) == 1 { value.rank().unwrap_or(0) } else { 0 };
    Ok(Value::known(value.element, vec![Extent::ONE; rank].into(), [reduced].into(), symbols))
}

/// The input without some axes, or with one entry along them.
fn reduced(op: &Op<'_>, named: &[i64], symbols: &mut Symbols) -> Ruled<Value> {
    let (rows, shape) = (op.rows(0)?, op.shape(0)?);
    let axes: Vec<usize> = named.iter().map(|axis| op.axis(*axis, shape.len())).collect::<Ruled<_>>()?;
    if axes.contains(&rows.axis) {
        return op.takes_rows_together(0, rows.axis);
    }
    let is_kept = op.integer("keepdims", 1) == 1;
    let gone = |axis: &usize| axes.contains(axis);
    // Of a tensor without elements ONNX Runtime leaves axes that are counted from the end as they are.
    let is_sure = named.iter().all(|axis| *axis >= 0) || shape.iter().all(|extent| symbols.is_positive(extent));
    let extents = (0..shape.len()).filter(|axis| is_kept || !gone(axis));
    let mut extent = |axis: usize| match gone(&axis) {
        false => shape[axis].clone(),
        true if is_sure => Extent::ONE,
        true => symbols.extent(),
    };
    let extents: Option<SymbolicShape> = (is_kept || is_sure).then(|| extents.map(&mut extent).collect());
    let before = if is_kept { 0 } else { (0..rows.axis).filter(gone).count() };
    Ok(Value::rows(rows.at(rows.axis - before), op.element(0), extents))
}

fn layer_norm(op: &Op<'_>) -> Ruled<Vec<Value>> {
    let (value, rows, shape) = (op.required(0)?, op.rows(0)?, op.shape(0)?);
    let axis = op.axis(op.integer("axis", -1), shape.len())?;
    if rows.axis >= axis {
        return op.takes_rows_together(0, rows.axis);
    }
    op.must_all_be_constant(1..op.inputs.len())?;
    // Scales with entries along the rows would be those of positions.
    for index in 1..op.inputs.len().min(3) {
        if op.input(index).is_some() && op.shape(index)?.len() > shape.len() - axis {
            return unproven(format!("'{}' has more axes than are normalised", op.name(index)));
        }
    }
    let statistics =
        shape.iter().enumerate().map(|(own, extent)| if own < axis { extent.clone() } else { Extent::ONE });
    let statistics = Value::rows(rows.clone(), value.element, Some(statistics.collect()));
    Ok(vec![value.computed(), statistics.clone(), statistics])
}

fn skip_layer_norm(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Vec<Value>> {
    let (flow, shape) = elementwise::broadcast(op, &[0, 1], symbols)?;
    op.must_all_be_constant(2..op.inputs.len())?;
    if op.required(0)?.shape != shape {
        return unproven(format!("'{}' has another shape than the output", op.name(0)));
    }
    let value = Value::of(flow, shape, op.element(0));
    match (&value.flow, value.rank()) {
        (Flow::Rows(rows), Some(rank)) if rows.axis + 1 < rank => {}
        (Flow::Rows(rows), Some(_)) => {
            return mixes(format!("it normalises along axis {}, which holds the rows", rows.axis));
        }
        _ => return unproven(format!("the rank of '{}' is not known", op.name(0))),
    }
    // The sum is an output too; the statistics between them are not given by ONNX Runtime's CPU provider.
    let Some(unknown) = value.shape.as_ref().map(|shape| {
        let last = shape.len() - 1;
        let extents =
            shape.iter().enumerate().map(|(axis, extent)| if axis < last { extent.clone() } else { Extent::ONE });
        Value { shape: Some(extents.collect()), ..value.clone() }
    }) else {
        return unproven(format!("the rank of '{}' is not known", op.name(0)));
    };
    Ok(vec![value.clone(), unknown.clone(), unknown, value])
}

/// A reduction over the axes that an attribute says, or over all.
pub(super) fn reduced_by_attribute(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Value> {
    let axes = match op.integers("axes").unwrap_or_default() {
        [] => (0..op.shape(0)?.len() as i64).collect(),
        axes => axes.to_vec(),
    };
    reduced(op, &axes, symbols)
}

/// The shape of a reduction of a constant, where its axes are known.
pub(super) fn constant_shape(op: &Op<'_>, shape: &[Extent]) -> Option<SymbolicShape> {
    let is_kept = op.integer("keepdims", 1) == 1;
    let axes = match op.node.operator.as_str() {
        "ArgMax" | "ArgMin" => Some(vec![op.integer("axis", 0)]),
        _ => op.axes(1).ok()?.filter(|axes| !axes.is_empty()),
    };
    let Some(axes) = axes else {
        let whole = if is_kept { vec![Extent::ONE; shape.len()] } else { Vec::new() };
        return (op.integer("noop_with_empty_axes", 0) != 1).then(|| whole.into());
    };
    let axes: Vec<usize> = axes.into_iter().map(|axis| op.axis(axis, shape.len()).ok()).collect::<Option<_>>()?;
    let extents = (0..shape.len()).filter(|axis| is_kept || !axes.contains(axis));
    Some(extents.map(|axis| if axes.contains(&axis) { Extent::ONE } else { shape[axis].clone() }).collect())
}

/// A Fourier transform along one axis; the last axis holds the real and imaginary parts.
pub(super) fn fourier(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Vec<Value>> {
    let (rows, shape) = (op.rows(0)?, op.shape(0)?);
    op.must_all_be_constant([1, 2])?;
    let axis = match op.input(2) {
        Some(_) => op.numbers(2)?.first().copied().unwrap_or(-2),
        None => op.integer("axis", if op.opset < 20 { 1 } else { -2 }),
    };
    let axis = op.axis(axis, shape.len())?;
    if rows.axis == axis || rows.axis + 1 == shape.len() {
        return op.takes_rows_together(0, rows.axis);
    }
    let mut extents = shape.to_vec();
    extents[axis] = symbols.extent();
    extents[shape.len() - 1] = Extent::Number(2);
    Ok(vec![Value::rows(rows.clone(), op.element(0), Some(extents.into()))])
}
