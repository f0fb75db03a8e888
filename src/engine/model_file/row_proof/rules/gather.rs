//! Operators that look elements up, or put them somewhere: it matters which operand is the table.

use super::{
    super::{
        extent::Extent,
        symbols::Symbols,
        value::{Flow, Rows, Value},
    },
    Op, Ruled, mixes, unproven,
};

pub(super) fn apply(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Vec<Value>> {
    let value = match op.node.operator.as_str() {
        "Gather" => gather(op, symbols)?,
        "GatherElements" => gather_elements(op)?,
        "GatherND" => gather_nd(op)?,
        "ScatterND" => scatter_nd(op)?,
        _ => scatter_elements(op)?,
    };
    Ok(vec![value])
}

fn gather(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Value> {
    let (table, indices) = (op.required(0)?, op.required(1)?);
    let (shape, index_shape) = (op.shape(0)?, op.shape(1)?);
    let axis = op.axis(op.integer("axis", 0), shape.len())?;
    let extents = [&shape[..axis], index_shape, &shape[axis + 1..]].concat();
    let gathered = |flow: Flow| Value::of(flow, Some(extents.clone().into()), table.element);
    let behind = |rows: &Rows| if rows.axis < axis { rows.axis } else { rows.axis + index_shape.len() - 1 };
    match (&table.flow, &indices.flow) {
        (Flow::Constant | Flow::BatchSize, Flow::Constant) => {
            let picked = (shape.len() == 1).then(|| picked(table, indices)).flatten();
            match picked {
                Some(data) => Ok(Value::known(table.element, extents.into(), data.into(), symbols)),
                None if table.is_constant() => Ok(gathered(Flow::Constant)),
                None => unproven(format!("which elements of '{}' are taken is not known", op.name(0))),
            }
        }
        (Flow::Constant, Flow::Rows(rows)) => Ok(gathered(Flow::Rows(rows.at(rows.axis + axis)))),
        (Flow::Rows(rows), Flow::Constant) if rows.axis != axis => Ok(gathered(Flow::Rows(rows.at(behind(rows))))),
        // Each row finds entries of its own block.
        (Flow::Rows(rows), Flow::Positions { axis: along, stride, .. })
            if rows.axis == axis && rows.outer.is_one() && rows.inner == *stride =>
        {
            Ok(gathered(Flow::Rows(Rows::along(axis + along))))
        }
        (Flow::Rows(rows), Flow::Constant) if rows.axis == axis => {
            mixes(format!("it picks entries along axis {axis} of '{}', which holds the rows of the batch", op.name(0)))
        }
        (Flow::Rows(_), Flow::Rows(_)) => {
            mixes(format!("each row of '{}' says what is taken of each row of '{}'", op.name(1), op.name(0)))
        }
        (_, Flow::BatchSize) | (Flow::BatchSize, Flow::Rows(_)) => mixes("the number of rows decides what is taken"),
        _ => mixes(format!("the positions of rows in the batch decide what is taken of '{}'", op.name(0))),
    }
}

/// The elements of a list at constant places.
fn picked(table: &Value, indices: &Value) -> Option<Vec<Extent>> {
    let data = table.data.as_ref()?;
    let at = |index: i64| data.get(usize::try_from(if index < 0 { index + data.len() as i64 } else { index }).ok()?);
    indices.numbers()?.into_iter().map(|index| at(index).cloned()).collect()
}

fn gather_elements(op: &Op<'_>) -> Ruled<Value> {
    let (table, indices) = (op.required(0)?, op.required(1)?);
    let (shape, index_shape) = (op.shape(0)?, op.shape(1)?);
    let axis = op.axis(op.integer("axis", 0), shape.len())?;
    let element = table.element;
    match (&table.flow, &indices.flow) {
        (Flow::Rows(rows), _) if rows.axis == axis => op.takes_rows_together(0, axis),
        (Flow::Rows(rows), Flow::Rows(own)) if rows == own => {
            Ok(Value::rows(rows.clone(), element, Some(index_shape.clone())))
        }
        (Flow::Constant, Flow::Rows(own)) if own.axis == axis => {
            Ok(Value::rows(own.clone(), element, Some(index_shape.clone())))
        }
        (Flow::Constant, Flow::Rows(_)) => {
            mixes(format!("the positions of rows in the batch decide what is taken of '{}'", op.name(0)))
        }
        _ => unproven(format!("'{}' and '{}' do not hold the rows along the same axis", op.name(0), op.name(1))),
    }
}

fn gather_nd(op: &Op<'_>) -> Ruled<Value> {
    let (table, indices) = (op.required(0)?, op.required(1)?);
    let (shape, index_shape) = (op.shape(0)?, op.shape(1)?);
    let batch_dims = usize::try_from(op.integer("batch_dims", 0)).unwrap_or(0);
    let depth = index_shape.last().and_then(Extent::number).and_then(|depth| usize::try_from(depth).ok());
    let Some(depth) = depth.filter(|depth| batch_dims + depth <= shape.len() && batch_dims < index_shape.len()) else {
        return unproven(format!("the length of the tuples in '{}' is not known", op.name(1)));
    };
    let last = index_shape.len() - 1;
    let extents = [&index_shape[..last], &shape[batch_dims + depth..]].concat();
    let gathered = |rows: Rows| Ok(Value::rows(rows, table.element, Some(extents.into())));
    match (&table.flow, &indices.flow) {
        (Flow::Rows(rows), Flow::Rows(own)) if rows == own && rows.axis < batch_dims => gathered(rows.clone()),
        (Flow::Constant, Flow::Rows(own)) if own.axis < last && own.axis >= batch_dims => gathered(own.clone()),
        (Flow::Rows(rows), Flow::RowTuples { axis }) if *rows == Rows::along(0) && batch_dims == 0 => {
            gathered(Rows::along(*axis))
        }
        (Flow::Rows(rows), Flow::Constant) if rows.axis >= batch_dims + depth => {
            gathered(rows.at(rows.axis - batch_dims - depth + last))
        }
        (Flow::Rows(rows), _) if rows.axis >= batch_dims && rows.axis < batch_dims + depth => mixes(format!(
            "it picks entries along axis {} of '{}', which holds the rows of the batch",
            rows.axis,
            op.name(0)
        )),
        _ => unproven(format!("'{}' and '{}' do not hold the rows along the same axis", op.name(0), op.name(1))),
    }
}

fn scatter_elements(op: &Op<'_>) -> Ruled<Value> {
    let shape = op.shape(0)?;
    let axis = op.axis(op.integer("axis", 0), shape.len())?;
    let rows: Vec<(usize, &Rows)> = (0..3).filter_map(|index| Some((index, op.input(index)?.as_rows()?))).collect();
    if let Some((index, _)) = rows.iter().find(|(_, rows)| rows.axis == axis) {
        return op.takes_rows_together(*index, axis);
    }
    // Where one of them held no rows it would say something of positions in the batch.
    match rows.as_slice() {
        [(_, first), others @ ..] if others.len() == 2 && others.iter().all(|(_, other)| other == first) => {
            Ok(Value::rows((*first).clone(), op.element(0), Some(shape.clone())))
        }
        _ => unproven("not all of its inputs hold the rows along the same axis"),
    }
}

fn scatter_nd(op: &Op<'_>) -> Ruled<Value> {
    let (shape, index_shape) = (op.shape(0)?, op.shape(1)?);
    let depth = index_shape.last().and_then(Extent::number).and_then(|depth| usize::try_from(depth).ok());
    let Some(depth) = depth else {
        return unproven(format!("the length of the tuples in '{}' is not known", op.name(1)));
    };
    let rows = op.rows(0)?;
    if rows.axis < depth {
        return match op.required(1)?.flow {
            Flow::Constant => {
                mixes(format!("it writes at places along axis {} of '{}', which holds the rows", rows.axis, op.name(0)))
            }
            _ => unproven(format!("where it writes in '{}' is not followed", op.name(0))),
        };
    }
    op.must_be_constant(1)?;
    // Of the updates the leading axes are those of the indices.
    let axis = rows.axis - depth + index_shape.len() - 1;
    match op.required(2)? {
        updates if updates.as_rows() == Some(&rows.at(axis)) => {
            Ok(Value::rows(rows.clone(), op.element(0), Some(shape.clone())))
        }
        _ => unproven(format!("'{}' does not hold the rows along axis {axis}", op.name(2))),
    }
}
