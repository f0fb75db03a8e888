//! Operators that give shapes, or tensors of a shape that is given.

use super::{
    super::{
        super::onnx::{FLOAT, INT64},
        constants,
        extent::{BATCH, Extent},
        symbols::Symbols,
        value::{Flow, Rows, Value},
    },
    MAX_ELEMENTS, Op, Ruled, SymbolicShape, arithmetic, mixes, unproven,
};

pub(super) fn apply(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Vec<Value>> {
    match op.node.operator.as_str() {
        "Shape" => shape_of(op, symbols),
        "Size" => {
            let size = symbols.product(&**op.shape(0)?);
            Ok(vec![Value::known(INT64, [].into(), [size].into(), symbols)])
        }
        "ConstantOfShape" => constant_of_shape(op, symbols),
        "Range" => range(op, symbols),
        _ => {
            let shape = op.shape(0)?.clone();
            if shape.iter().any(|extent| symbols.is_of_batch(extent)) {
                return mixes(format!("a diagonal over axis 0 of '{}' numbers the rows of the batch", op.name(0)));
            }
            Ok(vec![Value::constant(op.element(0), Some(shape))])
        }
    }
}

fn shape_of(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Vec<Value>> {
    let shape = op.shape(0)?;
    let rank = shape.len() as i64;
    let bound = |bound: i64| (if bound < 0 { bound + rank } else { bound }).clamp(0, rank) as usize;
    let (start, end) = (bound(op.integer("start", 0)), bound(op.integer("end", rank)));
    let extents = shape.get(start..end).unwrap_or_default();
    let length = Extent::Number(extents.len() as i64);
    Ok(vec![Value::known(INT64, [length].into(), extents.into(), symbols)])
}

fn constant_of_shape(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Vec<Value>> {
    let shape = op.extents(0)?;
    let tensor = op.attribute("value").and_then(|value| value.tensor.as_ref());
    let element = tensor.map_or(FLOAT, |tensor| tensor.element);
    let flow = spread(&shape, symbols)?;
    let mut value = Value::of(flow, Some(shape.clone()), element);
    let filling = tensor.map_or(Some(Extent::ZERO), |tensor| constants::elements(tensor, symbols)?.first().cloned());
    let count =
        arithmetic::numbers(&shape).and_then(|extents| extents.into_iter().try_fold(1_usize, usize::checked_mul));
    if let (Some(filling), Some(count @ ..=MAX_ELEMENTS)) = (filling, count) {
        value.data = Some(vec![filling; count].into());
    }
    Ok(vec![value])
}

/// The flow of a tensor of equal elements in a shape.
pub(super) fn spread(shape: &SymbolicShape, symbols: &Symbols) -> Ruled<Flow> {
    let mut of_batch = shape.iter().enumerate().filter(|(_, extent)| symbols.is_of_batch(extent));
    match (of_batch.next(), of_batch.next()) {
        (None, _) => Ok(Flow::Constant),
        (Some((axis, extent)), None) => match symbols.per_row(extent) {
            Some(inner) => Ok(Flow::Rows(Rows { axis, outer: Extent::ONE, inner })),
            None => unproven(format!("the extent of axis {axis} is no multiple of the number of rows")),
        },
        _ => mixes("two axes are as long as the batch: each row would meet each row"),
    }
}

fn range(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Vec<Value>> {
    let element = op.element(0);
    let mut scalars = Vec::with_capacity(3);
    for index in 0..3 {
        let scalar = op.required(index)?;
        op.holds_no_rows(scalar, index)?;
        scalars.push(scalar.scalar().cloned());
    }
    let length = match scalars.as_slice() {
        [Some(start), Some(limit), Some(Extent::Number(1))] => {
            let length = symbols.sub(limit, start);
            symbols.or_zero(&length)
        }
        _ if (0..3).all(|index| op.input(index).is_some_and(Value::is_constant)) => symbols.extent(),
        _ => return unproven("a range that the number of rows decides is not followed"),
    };
    if length == Extent::symbol(BATCH) && scalars[0] == Some(Extent::ZERO) {
        let flow = Flow::Positions { axis: 0, stride: Extent::ONE, has_own_part: false };
        return Ok(vec![Value::of(flow, Some([length].into()), element)]);
    }
    if symbols.is_of_batch(&length) || scalars.iter().flatten().any(|scalar| symbols.is_of_batch(scalar)) {
        return mixes("it counts over the rows of the batch");
    }
    let mut value = Value::constant(element, Some([length.clone()].into()));
    // Counted up from no less than zero.
    if let [Some(start), Some(limit), Some(Extent::Number(1..))] = scalars.as_slice()
        && symbols.is_nonnegative(start)
    {
        value.below = Some(limit.clone());
    }
    if let (Some(Some(Extent::Number(start))), Some(count @ 0..=64)) = (scalars.first(), length.number())
        && scalars[2].as_ref().is_some_and(Extent::is_one)
    {
        value.data = Some((0..count).map(|step| Extent::Number(start + step)).collect());
    }
    Ok(vec![value])
}
