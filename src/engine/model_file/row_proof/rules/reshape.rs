//! Reshapes: rows stay apart where the elements of each are still one block, or as many equal blocks as before.

use super::{
    super::{
        extent::Extent,
        symbols::Symbols,
        value::{Flow, Rows, Value},
    },
    Op, Ruled, SymbolicShape, mixes, unproven,
};

pub(super) fn apply(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Vec<Value>> {
    let target = match op.node.operator.as_str() {
        "Flatten" => return flatten(op, symbols).map(|value| vec![value]),
        _ if op.input(1).is_none() => {
            let Some(shape) = op.integers("shape") else { return unproven("it names no shape") };
            shape.iter().map(|extent| Extent::Number(*extent)).collect()
        }
        _ => op.extents(1)?,
    };
    let zero_is_copied = op.integer("allowzero", 0) != 1;
    let shape = op.required(0)?.shape.clone();
    // Zero stands for the input's own extent, -1 for all that is left.
    let mut extents = Vec::with_capacity(target.len());
    let mut left = None;
    let whole = shape.as_ref().map(|shape| symbols.product(&**shape));
    let is_part = |extent: &Extent, symbols: &Symbols| {
        !symbols.has_rest(extent) && whole.as_ref().is_some_and(|whole| whole.div_exact(extent).is_some())
    };
    let is_own = |axis: usize, extent: &Extent| shape.as_ref().and_then(|shape| shape.get(axis)) == Some(extent);
    for (axis, extent) in target.iter().enumerate() {
        match extent {
            Extent::Number(0) if zero_is_copied => {
                let own = shape.as_ref().and_then(|shape| shape.get(axis));
                let Some(own) = own else { return unproven(format!("the extents of '{}' are not known", op.name(0))) };
                extents.push(own.clone());
            }
            Extent::Number(-1) => {
                left = Some(axis);
                extents.push(Extent::ONE);
            }
            // An extent that is zero at times would then mean `copy this axis`. That does no harm if the tensor is empty with it.
            extent
                if zero_is_copied
                    && !symbols.is_positive(extent)
                    && !is_own(axis, extent)
                    && !is_part(extent, symbols) =>
            {
                return unproven(format!("extent {axis} of the new shape of '{}' may be zero", op.name(0)));
            }
            extent => extents.push(extent.clone()),
        }
    }
    reshaped(op, extents, left, symbols).map(|value| vec![value])
}

fn flatten(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Value> {
    let shape = op.shape(0)?.clone();
    let rank = shape.len() as i64;
    let axis = op.integer("axis", 1);
    let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).unwrap_or(0).min(shape.len());
    let extents = vec![symbols.product(&shape[..axis]), symbols.product(&shape[axis..])];
    reshaped(op, extents, None, symbols)
}

/// The input in another shape; axis `left`, whose extent is given as 1, takes all that is left.
fn reshaped(op: &Op<'_>, mut extents: Vec<Extent>, left: Option<usize>, symbols: &mut Symbols) -> Ruled<Value> {
    let value = op.required(0)?;
    let product = symbols.product(&extents);
    let total = value.shape.as_ref().map(|shape| symbols.product(&**shape));
    match &value.flow {
        Flow::Constant | Flow::BatchSize => {
            if let Some(left) = left {
                extents[left] = match total.and_then(|total| total.div_exact(&product)) {
                    Some(extent) => extent,
                    None => symbols.extent(),
                };
            }
            if extents.iter().any(|extent| symbols.is_of_batch(extent)) {
                return unproven(format!("'{}', which holds no rows, is given the extent of the batch", op.name(0)));
            }
            Ok(value.with_shape(extents.into()))
        }
        Flow::Rows(rows) => {
            let shape = op.shape(0)?.clone();
            rows_reshaped(op, rows, &shape, (extents, left, &product), symbols)
        }
        // Axes of one entry more or less change nothing.
        Flow::Positions { axis, stride, has_own_part } => {
            let shape = op.shape(0)?.clone();
            let moved = rows_reshaped(op, &Rows::along(*axis), &shape, (extents, left, &product), symbols)?;
            match moved.as_rows() {
                Some(rows) if *rows == Rows::along(rows.axis) => {
                    let (axis, stride, has_own_part) = (rows.axis, stride.clone(), *has_own_part);
                    Ok(Value { flow: Flow::Positions { axis, stride, has_own_part }, ..moved })
                }
                _ => unproven(format!("'{}' holds positions of rows", op.name(0))),
            }
        }
        // Padding stays behind the words where the axis of the words stays the last.
        Flow::Padded(rows, padding) => {
            let shape = op.shape(0)?.clone();
            let moved = rows_reshaped(op, rows, &shape, (extents, left, &product), symbols)?;
            let is_list = |shape: &[Extent]| shape.len() > 1 && shape[1..shape.len() - 1].iter().all(Extent::is_one);
            let fits = is_list(&shape) && moved.shape.as_deref().is_some_and(is_list);
            match moved.as_rows() {
                Some(own) if fits && *own == Rows::along(0) && *rows == Rows::along(0) => {
                    Ok(Value { flow: Flow::Padded(own.clone(), padding.clone()), ..moved })
                }
                _ => mixes(format!("'{}' is padded to the longest row", op.name(0))),
            }
        }
        _ => unproven(format!("'{}' holds positions of rows", op.name(0))),
    }
}

/// Element `(p * batch + b) * q + r` in row-major order belongs to row `b`, where `p` counts what lies ahead of the rows and `r`
/// what each row has: that holds in the new shape too where `p` ends at one of its axes, or within one.
fn rows_reshaped(
    op: &Op<'_>,
    rows: &Rows,
    shape: &SymbolicShape,
    (mut extents, left, product): (Vec<Extent>, Option<usize>, &Extent),
    symbols: &mut Symbols,
) -> Ruled<Value> {
    let ahead = symbols.product(shape[..rows.axis].iter().chain([&rows.outer]));
    let behind = symbols.product([&rows.inner].into_iter().chain(&shape[rows.axis + 1..]));
    if let Some(left) = left {
        // The extents given may hold the number of rows, or leave it to the one that takes what is left.
        let whole = symbols.product(&**shape);
        let extent = whole.div_exact(product);
        extents[left] = match extent {
            Some(extent) => extent,
            // It doesn't matter how long it is where the rows have been separated before it.
            None if symbols.is_of_batch(product) => symbols.extent(),
            None => {
                let name = op.name(0);
                return match symbols.mul(&ahead, &behind).number() {
                    Some(elements) => mixes(format!(
                        "{elements} elements for each row of '{name}' don't fill the new shape evenly: some get into the next row's"
                    )),
                    None => unproven(format!("the elements of each row of '{name}' may not fill the new shape evenly")),
                };
            }
        };
    }
    let mut before = Extent::ONE;
    for (axis, extent) in extents.iter().enumerate() {
        if !symbols.is_of_batch(extent) {
            before = symbols.mul(&before, extent);
            continue;
        }
        let rest = symbols.product(&extents[axis + 1..]);
        // A reshape keeps the number of elements: where one side of the rows fits, so does the other. But where the rows' extent is
        // the only one that is open, ONNX Runtime may put -1 in its place: then both sides must fit for themselves.
        let is_open = |(other, extent): (usize, &Extent)| {
            other != axis && extent.number().is_none() && shape.get(other) != Some(extent)
        };
        let is_only_open = !extents.iter().enumerate().any(is_open);
        let split = symbols.per_row(extent).and_then(|per_row| {
            let by_ahead = || {
                let outer = ahead.div_exact(&before)?;
                Some((per_row.div_exact(&outer)?, outer))
            };
            let by_behind = || {
                let inner = behind.div_exact(&rest)?;
                Some((inner.clone(), per_row.div_exact(&inner)?))
            };
            let (inner, outer) = by_ahead().or_else(by_behind)?;
            let fits = !is_only_open
                || symbols.require_equal(&ahead, &before.mul(&outer)?)
                    && symbols.require_equal(&behind, &inner.mul(&rest)?);
            fits.then_some(Rows { axis, outer, inner })
        });
        return match split {
            Some(rows) if !symbols.is_of_batch(&rest) => Ok(Value::rows(rows, op.element(0), Some(extents.into()))),
            _ => mixes(format!("elements of several rows of '{}' get into one part of the new shape", op.name(0))),
        };
    }
    unproven(format!("the new shape of '{}' does not say where the rows are", op.name(0)))
}
