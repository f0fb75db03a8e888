//! Attention: rows of a batch attend to themselves alone.

use super::{
    super::{
        extent::Extent,
        symbols::Symbols,
        value::{Rows, Value},
    },
    Op, Ruled, mixes, unproven,
};

/// True if an operator of `com.microsoft` is one of these.
pub(super) fn has_rule_of_microsoft(operator: &str) -> bool {
    matches!(
        operator,
        "Attention"
            | "EmbedLayerNormalization"
            | "GroupQueryAttention"
            | "MultiHeadAttention"
            | "QAttention"
            | "RotaryEmbedding"
    )
}

/// Inputs that hold rows along axis 0, by operator: all others are constant.
fn inputs_with_rows(op: &Op<'_>) -> &'static [usize] {
    match (op.node.domain.as_str(), op.node.operator.as_str()) {
        ("com.microsoft", "Attention") => &[0, 3, 5],
        ("com.microsoft", "QAttention") => &[0, 5],
        (_, "EmbedLayerNormalization") => &[0, 1, 7, 8],
        (_, "GroupQueryAttention") => &[0, 1, 2, 3, 4, 5],
        (_, "MultiHeadAttention") => &[0, 1, 2, 4, 5, 6, 7],
        ("com.microsoft", "RotaryEmbedding") => &[0, 1],
        (_, "RotaryEmbedding") => &[0, 3],
        _ => &[0, 1, 2, 3, 4, 5, 6],
    }
}

pub(super) fn apply(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Vec<Value>> {
    let rows = op.rows(0)?.clone();
    if rows != Rows::along(0) {
        return match rows.axis {
            0 => unproven(format!("'{}' has several entries for a row along axis 0", op.name(0))),
            axis => op.takes_rows_together(0, axis),
        };
    }
    let with_rows = inputs_with_rows(op);
    for (index, value) in
        op.inputs.iter().enumerate().skip(1).filter_map(|(index, value)| Some((index, value.as_ref()?)))
    {
        if !with_rows.contains(&index) {
            op.must_be_constant(index)?;
            continue;
        }
        match value.as_rows() {
            // A bias of fewer axes is for all rows: its first axis is another.
            Some(_) if is_bias(op, index) && value.rank() != Some(4) => {
                return mixes(format!(
                    "'{}' has fewer than 4 axes, so that it says something of every row",
                    op.name(index)
                ));
            }
            Some(own) if *own == rows => {}
            Some(own) if own.axis != 0 => {
                return mixes(format!("'{}' holds the rows along axis {} instead of 0", op.name(index), own.axis));
            }
            Some(_) => return unproven(format!("'{}' has several entries for a row along axis 0", op.name(index))),
            None if is_shared(value)
                || is_bias(op, index) && value.is_constant() && value.rank().is_some_and(|rank| rank < 4) => {}
            None => {
                return unproven(format!("'{}' has entries of its own along the axis of the batch", op.name(index)));
            }
        }
    }
    let shape = op.shape(0)?.clone();
    if shape.len() < 2 {
        return unproven(format!("'{}' has {} axes", op.name(0), shape.len()));
    }
    let mut extents = shape.to_vec();
    let operator = op.node.operator.as_str();
    if operator != "RotaryEmbedding" {
        // The last axis is that of the values, which may be of another size.
        let last = extents.len() - 1;
        extents[last] = symbols.extent();
    }
    if operator == "EmbedLayerNormalization" {
        extents = vec![shape[0].clone(), shape[1].clone(), symbols.extent()];
    }
    if matches!(operator, "MultiHeadAttention" | "GroupQueryAttention") && shape.len() != 3 {
        // Packed operands have other shapes.
        return unproven(format!("'{}' has {} axes instead of 3", op.name(0), shape.len()));
    }
    // Tables of angles are for positions in a sequence; with three axes they would be for rows.
    let is_table = |index: &usize| op.input(*index).is_some_and(|table| table.rank() != Some(2) && table.is_constant());
    let first_table = if op.node.domain.is_empty() { 1 } else { 2 };
    if operator == "RotaryEmbedding" && [first_table, first_table + 1].iter().any(is_table) {
        return unproven(format!("'{}' has other than 2 axes", op.name(first_table)));
    }
    let output = Value::rows(rows.clone(), op.element(0), Some(extents.into()));
    let more = op.node.outputs.len().saturating_sub(1);
    let other = match (op.node.domain.as_str(), operator) {
        // Its keys and values of the past have the batch along axis 1, and are not followed.
        ("com.microsoft", "Attention" | "QAttention") if more > 0 => {
            return unproven("an output of keys and values is not followed");
        }
        // One index for each row.
        (_, "EmbedLayerNormalization") => Value::rows(rows, 0, None),
        _ => {
            let extents: Vec<Extent> = [shape[0].clone()].into_iter().chain((1..4).map(|_| symbols.extent())).collect();
            Value::rows(rows, op.element(0), Some(extents.into()))
        }
    };
    Ok([output].into_iter().chain((0..more).map(|_| other.clone())).collect())
}

/// True if an input is added to the scores `[batch, heads, queries, keys]`, with broadcasting.
fn is_bias(op: &Op<'_>, index: usize) -> bool {
    match (op.node.domain.as_str(), op.node.operator.as_str()) {
        ("com.microsoft", "Attention" | "MultiHeadAttention") => index == 5,
        (_, "Attention") => index == 3,
        _ => false,
    }
}

/// A constant that is the same for all rows.
fn is_shared(value: &Value) -> bool {
    let Some(shape) = &value.shape else { return false };
    value.is_constant() && (shape.iter().all(Extent::is_one) || shape.len() == 4 && shape[0].is_one())
}
