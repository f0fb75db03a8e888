//! Recurrent nets: each row of the batch is a sequence of its own, along an axis that the layout says.

use super::{
    super::{
        extent::Extent,
        symbols::Symbols,
        value::{Rows, Value},
    },
    Op, Ruled, unproven,
};

pub(super) fn apply(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Vec<Value>> {
    let batch_first = op.integer("layout", 0) != 0;
    let batch = usize::from(!batch_first);
    let (rows, shape) = (op.rows(0)?.clone(), op.shape(0)?.clone());
    if shape.len() != 3 {
        return unproven(format!("'{}' has {} axes instead of 3", op.name(0), shape.len()));
    }
    if rows.axis != batch {
        return op.takes_rows_together(0, rows.axis);
    }
    op.must_all_be_constant([1, 2, 3])?;
    // Lengths of the sequences, and states to begin with: `[directions, batch, hidden]`, or the batch first.
    for (index, axis) in [(4, 0), (5, batch), (6, batch)] {
        match op.input(index) {
            None => {}
            Some(value) if value.as_rows() == Some(&rows.at(axis)) => {}
            Some(_) => return unproven(format!("'{}' does not hold the rows along axis {axis}", op.name(index))),
        }
    }
    op.must_be_constant(7)?;
    let both = op.text("direction") == Some("bidirectional");
    let directions = Extent::Number(if both { 2 } else { 1 });
    let hidden = match op.integer("hidden_size", 0) {
        0 => symbols.extent(),
        hidden => Extent::Number(hidden),
    };
    let (time, size) = (shape[1 - batch].clone(), shape[batch].clone());
    let (all, last) = match batch_first {
        true => (vec![size.clone(), time, directions.clone(), hidden.clone()], vec![size, directions, hidden]),
        false => (vec![time, directions.clone(), size.clone(), hidden.clone()], vec![directions, size, hidden]),
    };
    let of = |rows: Rows, extents: Vec<Extent>| Value::rows(rows, op.element(0), Some(extents.into()));
    let (all, last) = (of(rows.at(2 * batch), all), of(rows.at(batch), last));
    Ok(vec![all, last.clone(), last])
}
