//! Operators that move, add, drop and repeat axes.

use std::rc::Rc;

use super::{
    super::{
        extent::Extent,
        symbols::Symbols,
        value::{Flow, Rows, Value},
    },
    MAX_ELEMENTS, Op, Ruled, SymbolicShape, arithmetic, mixes, sized, unproven,
};

pub(super) fn apply(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Vec<Value>> {
    let value = match op.node.operator.as_str() {
        "Transpose" => transpose(op)?,
        "Squeeze" => squeeze(op)?,
        "Unsqueeze" | "ExpandDims" => unsqueeze(op)?,
        "Concat" => concat(op, symbols)?,
        "Expand" => expand(op, symbols)?,
        _ => tile(op, symbols)?,
    };
    Ok(vec![value])
}

/// The flow of a tensor whose axes go to other places, of `rank` then; `None` for an axis that is gone.
fn moved(op: &Op<'_>, flow: &Flow, rank: usize, to: impl Fn(usize) -> Option<usize>) -> Ruled<Flow> {
    let moved = |axis: usize| {
        to(axis).map_or_else(|| unproven(format!("axis {axis} of '{}' holds the rows and is dropped", op.name(0))), Ok)
    };
    Ok(match flow {
        Flow::Rows(rows) => Flow::Rows(rows.at(moved(rows.axis)?)),
        Flow::Positions { axis, stride, has_own_part } => {
            Flow::Positions { axis: moved(*axis)?, stride: stride.clone(), has_own_part: *has_own_part }
        }
        Flow::RowTuples { axis } => {
            let last = op.shape(0)?.len() - 1;
            if to(last) != Some(rank - 1) {
                return unproven(format!("tuples of indices in '{}' are taken apart", op.name(0)));
            }
            Flow::RowTuples { axis: moved(*axis)? }
        }
        Flow::Constant | Flow::BatchSize => flow.clone(),
        Flow::Padded(..) | Flow::Mixed(_) | Flow::Unproven(_) => {
            return mixes(format!("'{}' is padded to the longest row", op.name(0)));
        }
    })
}

fn transpose(op: &Op<'_>) -> Ruled<Value> {
    let (value, shape) = (op.required(0)?, op.shape(0)?);
    let rank = shape.len();
    let order: Vec<usize> = match op.integers("perm") {
        None => (0..rank).rev().collect(),
        Some(order) if order.len() != rank => return unproven(format!("it has {} axes for {rank}", order.len())),
        Some(order) => order.iter().map(|axis| op.axis(*axis, rank)).collect::<Ruled<_>>()?,
    };
    let flow = moved(op, &value.flow, rank, |axis| order.iter().position(|from| *from == axis))?;
    let data = value.data.as_ref().and_then(|data| transposed(data, shape, &order));
    if matches!(flow, Flow::BatchSize) && data.is_none() {
        return unproven("a shape with several axes is transposed");
    }
    Ok(Value { flow, shape: Some(order.iter().map(|axis| shape[*axis].clone()).collect()), data, ..value.clone() })
}

/// Known elements in the order of other axes.
fn transposed(data: &[Extent], shape: &[Extent], order: &[usize]) -> Option<Rc<[Extent]>> {
    let extents = arithmetic::numbers(shape)?;
    if extents.iter().try_fold(1_usize, |count, extent| count.checked_mul(*extent))? != data.len() || data.is_empty() {
        return None;
    }
    let stride = |axis: usize| extents[axis + 1..].iter().product::<usize>();
    let element = |mut index: usize| {
        let mut position = 0;
        for axis in order.iter().rev() {
            position += index.checked_rem(extents[*axis])? * stride(*axis);
            index /= extents[*axis];
        }
        data.get(position).cloned()
    };
    (0..data.len()).map(element).collect()
}

fn squeeze(op: &Op<'_>) -> Ruled<Value> {
    let (value, shape) = (op.required(0)?, op.shape(0)?);
    let rank = shape.len();
    // No axes are all of extent 1.
    let mut dropped: Vec<usize> = match op.axes(1)?.filter(|axes| !axes.is_empty()) {
        Some(axes) => axes.into_iter().map(|axis| op.axis(axis, rank)).collect::<Ruled<_>>()?,
        None if shape.iter().all(|extent| extent.number().is_some()) => {
            (0..rank).filter(|axis| shape[*axis].is_one()).collect()
        }
        None if value.as_rows().is_some() => {
            return mixes(format!("it drops axes of '{}' that have the extent 1, as the batch may have", op.name(0)));
        }
        None => return unproven("which axes have the extent 1 is not known"),
    };
    dropped.sort_unstable();
    dropped.dedup();
    let place = |axis: usize| axis - dropped.iter().filter(|gone| **gone < axis).count();
    let flow = moved(op, &value.flow, rank - dropped.len(), |axis| (!dropped.contains(&axis)).then(|| place(axis)))?;
    let kept = shape.iter().enumerate().filter(|(axis, _)| !dropped.contains(axis));
    Ok(Value { flow, shape: Some(kept.map(|(_, extent)| extent.clone()).collect()), ..value.clone() })
}

fn unsqueeze(op: &Op<'_>) -> Ruled<Value> {
    let (value, shape) = (op.required(0)?, op.shape(0)?);
    let Some(axes) = op.axes(1)? else { return unproven("it names no axes") };
    let rank = shape.len() + axes.len();
    let added: Vec<usize> = axes.into_iter().map(|axis| op.axis(axis, rank)).collect::<Ruled<_>>()?;
    let places: Vec<usize> = (0..rank).filter(|axis| !added.contains(axis)).collect();
    if places.len() != shape.len() {
        return unproven("it names an axis twice");
    }
    let flow = moved(op, &value.flow, rank, |axis| places.get(axis).copied())?;
    let mut extents = vec![Extent::ONE; rank];
    places.iter().zip(shape.iter()).for_each(|(place, extent)| extents[*place] = extent.clone());
    Ok(Value { flow, shape: Some(extents.into()), ..value.clone() })
}

fn concat(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Value> {
    let parts: Vec<(usize, &Value)> =
        op.inputs.iter().enumerate().filter_map(|(index, value)| Some((index, value.as_ref()?))).collect();
    let Some((_, first)) = parts.first() else { return unproven("it has no inputs") };
    let shapes: Vec<&SymbolicShape> = parts.iter().map(|(index, _)| op.shape(*index)).collect::<Ruled<_>>()?;
    let rank = shapes[0].len();
    let axis = op.axis(op.integer("axis", if op.opset < 4 { 1 } else { -1 }), rank)?;
    if shapes.iter().any(|shape| shape.len() != rank) {
        return unproven("its inputs have different ranks");
    }
    let length = shapes.iter().fold(Extent::ZERO, |length, shape| symbols.add(&length, &shape[axis]));
    let mut shape = shapes[0].to_vec();
    for other in &shapes {
        (0..rank).for_each(|axis| {
            if shape[axis].number().is_none() {
                shape[axis] = other[axis].clone();
            }
        });
    }
    shape[axis] = length;
    let shape: SymbolicShape = shape.into();
    if parts.iter().all(|(_, value)| value.is_without_rows()) {
        let data: Option<Vec<&[Extent]>> = parts.iter().map(|(_, value)| value.data.as_deref()).collect();
        return match data.filter(|_| rank == 1) {
            Some(data) => Ok(Value::known(first.element, shape, data.concat().into(), symbols)),
            None if parts.iter().all(|(_, value)| value.is_constant()) => {
                Ok(Value::constant(first.element, Some(shape)))
            }
            None => unproven("the number of rows is joined with what is not known"),
        };
    }
    let flow = joined(op, &parts, axis, rank)?;
    if let Flow::Rows(rows) = &flow
        && rows.axis != axis
    {
        let mut extents = shape.to_vec();
        extents[rows.axis] = rows.extent(symbols);
        return Ok(Value::of(flow, Some(extents.into()), first.element));
    }
    Ok(Value::of(flow, Some(shape), first.element))
}

fn joined(op: &Op<'_>, parts: &[(usize, &Value)], axis: usize, rank: usize) -> Ruled<Flow> {
    // Indices of elements of the own row: its position, and what the row says.
    if let Flow::Positions { axis: along, stride: Extent::ONE, has_own_part: false } = parts[0].1.flow
        && axis + 1 == rank
        && along != axis
        && parts[0].1.shape.as_ref().is_some_and(|shape| shape[axis].is_one())
        && parts[1..].iter().all(|(_, value)| value.as_rows().is_some_and(|rows| *rows == Rows::along(along)))
    {
        return Ok(Flow::RowTuples { axis: along });
    }
    let mut whole = op.rows(parts[0].0)?.clone();
    for (index, _) in &parts[1..] {
        let rows = op.rows(*index)?;
        if rows.axis != whole.axis {
            return unproven(format!(
                "'{}' holds its rows along another axis than '{}'",
                op.name(*index),
                op.name(parts[0].0)
            ));
        }
        if rows.axis != axis && !rows.has_factors_of(&whole) || rows.inner != whole.inner {
            return unproven(format!(
                "'{}' has another number of entries for a row than '{}'",
                op.name(*index),
                op.name(parts[0].0)
            ));
        }
        if rows.axis == axis {
            whole.outer = match whole.outer.add(&rows.outer) {
                Some(outer) => outer,
                None => return unproven("its extent is too large"),
            };
        }
    }
    Ok(Flow::Rows(whole))
}

fn expand(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Value> {
    let (value, shape, target) = (op.required(0)?, op.shape(0)?.clone(), op.extents(1)?);
    let rank = shape.len().max(target.len());
    let aligned = |shape: &[Extent], axis: usize| match (axis + shape.len()).checked_sub(rank) {
        Some(own) => shape[own].clone(),
        None => Extent::ONE,
    };
    let mut extents = Vec::with_capacity(rank);
    for axis in 0..rank {
        let (own, other) = (aligned(&shape, axis), aligned(&target, axis));
        extents.push(match symbols.is_of_batch(&own) {
            true => own,
            false => symbols.broadcast(&own, &other),
        });
    }
    let extents: SymbolicShape = extents.into();
    let ahead = rank - shape.len();
    let flow = match &value.flow {
        Flow::Constant => {
            let flow = sized::spread(&extents, symbols)?;
            if let Flow::Rows(rows) = &flow
                && !aligned(&shape, rows.axis).is_one()
            {
                return unproven(format!("'{}' has entries of its own along the axis of the batch", op.name(0)));
            }
            flow
        }
        Flow::Rows(Rows { axis, .. }) | Flow::Positions { axis, .. } => {
            let axis = axis + ahead;
            let is_other = |other: &usize| *other != axis && symbols.is_of_batch(&extents[*other]);
            if (0..rank).any(|other| is_other(&other)) {
                return mixes(format!("each row of '{}' is repeated for each row", op.name(0)));
            }
            let wanted = aligned(&target, axis);
            if !wanted.is_one() && wanted != extents[axis] {
                return unproven(format!("'{}' is to have another extent along the axis of the batch", op.name(0)));
            }
            moved(op, &value.flow, rank, |axis| Some(axis + ahead))?
        }
        _ => return unproven(format!("'{}' is repeated", op.name(0))),
    };
    let mut expanded = Value::of(flow, Some(extents.clone()), value.element);
    // A shape of ones, or the like.
    if let (Some(only), Some(count)) = (value.scalar(), arithmetic::numbers(&extents))
        && let Some(count @ ..=MAX_ELEMENTS) = count.into_iter().try_fold(1_usize, usize::checked_mul)
        && expanded.is_constant()
    {
        expanded.data = Some(vec![only.clone(); count].into());
    }
    Ok(expanded)
}

fn tile(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Value> {
    let (value, shape, repeats) = (op.required(0)?, op.shape(0)?.clone(), op.extents(1)?);
    if repeats.len() != shape.len() {
        return unproven(format!("it repeats {} axes of {}", repeats.len(), shape.len()));
    }
    let extents: SymbolicShape =
        shape.iter().zip(repeats.iter()).map(|(extent, times)| symbols.mul(extent, times)).collect();
    let mut by_batch = (0..repeats.len()).filter(|axis| symbols.is_of_batch(&repeats[*axis]));
    let flow = match (&value.flow, by_batch.next(), by_batch.next()) {
        (Flow::Constant, None, _) => Flow::Constant,
        // Copies lie one behind the other: each row gets a whole one.
        (Flow::Constant, Some(axis), None) => match symbols.per_row(&repeats[axis]) {
            Some(times) => {
                let inner = symbols.mul(&times, &shape[axis]);
                Flow::Rows(Rows { axis, outer: Extent::ONE, inner })
            }
            None => return unproven("it repeats by no multiple of the number of rows"),
        },
        (Flow::Rows(rows), None, _) => {
            let outer = symbols.mul(&rows.outer, &repeats[rows.axis]);
            Flow::Rows(Rows { outer, ..rows.clone() })
        }
        (Flow::Rows(_), ..) => return mixes(format!("each row of '{}' is repeated for each row", op.name(0))),
        _ => return unproven(format!("'{}' is repeated", op.name(0))),
    };
    Ok(Value::of(flow, Some(extents), value.element))
}
