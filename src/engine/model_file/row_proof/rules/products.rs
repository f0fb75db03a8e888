//! Products of matrices: rows must not lie along an axis that is summed over.

use super::{
    super::{
        extent::Extent,
        symbols::Symbols,
        value::{Flow, Rows, Value},
    },
    Op, Ruled, SymbolicShape, elementwise, mixes, unproven,
};

pub(super) fn apply(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Vec<Value>> {
    let value = match op.node.operator.as_str() {
        "MatMul" => matmul(op, [0, 1], symbols)?,
        "FusedMatMul" | "TransposeMatMul" => {
            let is_set = ["transA", "transB", "transBatchA", "transBatchB"].map(|name| op.integer(name, 0) != 0);
            match is_set {
                [false, false, false, false] => matmul(op, [0, 1], symbols)?,
                [first, second, false, false] => {
                    let first = if first { with_last_axes_swapped(op, 0)? } else { op.required(0)?.clone() };
                    let second = if second { with_last_axes_swapped(op, 1)? } else { op.required(1)?.clone() };
                    product(op, [(0, &first), (1, &second)], symbols)?
                }
                _ => return unproven("products with batches transposed are not followed"),
            }
        }
        "Gemm" | "FusedGemm" => gemm(op, symbols)?,
        "MatMulNBits" => {
            op.must_all_be_constant(1..op.inputs.len())?;
            let columns = Extent::Number(op.integer("N", 0));
            last_axis_replaced(op, columns)?
        }
        "Einsum" => einsum(op, symbols)?,
        // Distances of the rows of the first to those of the second.
        "CDist" => {
            op.must_be_constant(1)?;
            if op.shape(0)?.len() != 2 || op.shape(1)?.len() != 2 {
                return unproven("its operands are no matrices");
            }
            match op.rows(0)? {
                rows if rows.axis == 0 => {
                    let extents = [op.shape(0)?[0].clone(), op.shape(1)?[0].clone()];
                    Value::rows(rows.clone(), op.element(0), Some(extents.into()))
                }
                rows => return op.takes_rows_together(0, rows.axis),
            }
        }
        "Inverse" => without_last_axes(op, 0)?,
        _ => without_last_axes(op, 2)?,
    };
    Ok(vec![value])
}

/// Each matrix in the last two axes makes its own part of the output, of which `dropped` of them are gone.
fn without_last_axes(op: &Op<'_>, dropped: usize) -> Ruled<Value> {
    let (rows, shape) = (op.rows(0)?, op.shape(0)?);
    if rows.axis + 2 >= shape.len() {
        return op.takes_rows_together(0, rows.axis);
    }
    Ok(Value::rows(rows.clone(), op.element(0), shape.get(..shape.len() - dropped).map(Into::into)))
}

/// The first input times constant weights, along its last axis.
pub(super) fn last_axis_replaced(op: &Op<'_>, columns: Extent) -> Ruled<Value> {
    let (rows, shape) = (op.rows(0)?, op.shape(0)?);
    if rows.axis + 1 == shape.len() {
        return op.takes_rows_together(0, rows.axis);
    }
    let mut extents = shape.to_vec();
    extents[shape.len() - 1] = columns;
    Ok(Value::rows(rows.clone(), op.element(0), Some(extents.into())))
}

fn with_last_axes_swapped(op: &Op<'_>, index: usize) -> Ruled<Value> {
    let (value, mut extents) = (op.required(index)?.clone(), op.shape(index)?.to_vec());
    let rank = extents.len();
    if rank < 2 {
        return Ok(value);
    }
    extents.swap(rank - 1, rank - 2);
    let flow = match &value.flow {
        Flow::Rows(rows) if rows.axis + 2 >= rank => Flow::Rows(rows.at(2 * rank - 3 - rows.axis)),
        flow => flow.clone(),
    };
    Ok(Value::of(flow, Some(extents.into()), value.element))
}

/// The product of two inputs of the node.
pub(super) fn matmul(op: &Op<'_>, [first, second]: [usize; 2], symbols: &mut Symbols) -> Ruled<Value> {
    product(op, [(first, op.required(first)?), (second, op.required(second)?)], symbols)
}

fn product(op: &Op<'_>, [(first, left), (second, right)]: [(usize, &Value); 2], symbols: &mut Symbols) -> Ruled<Value> {
    let known = |value: &Value, index: usize| -> Ruled<SymbolicShape> {
        value.shape.clone().map_or_else(|| unproven(format!("the rank of '{}' is not known", op.name(index))), Ok)
    };
    let (left_shape, right_shape) = (known(left, first)?, known(right, second)?);
    if left_shape.len() < 2 || right_shape.is_empty() {
        return match left.as_rows() {
            Some(_) if left_shape.len() == 1 => op.takes_rows_together(first, 0),
            _ => unproven("products with vectors on the left are not followed"),
        };
    }
    // A vector on the right is a column that is dropped again.
    let is_vector = right_shape.len() == 1;
    let right_shape: SymbolicShape = if is_vector { [right_shape[0].clone(), Extent::ONE].into() } else { right_shape };
    let rank = left_shape.len().max(right_shape.len());
    let mut extents = Vec::with_capacity(rank);
    let batch =
        |shape: &SymbolicShape, axis: usize| (axis + shape.len()).checked_sub(rank).map(|own| shape[own].clone());
    for axis in 0..rank - 2 {
        let pair = [batch(&left_shape, axis), batch(&right_shape, axis)];
        let [left, right] = pair.map(|extent| extent.unwrap_or(Extent::ONE));
        extents.push(symbols.broadcast(&left, &right));
    }
    extents.push(left_shape[left_shape.len() - 2].clone());
    if !is_vector {
        extents.push(right_shape[right_shape.len() - 1].clone());
    }
    let place =
        |value: &Value, shape: &SymbolicShape| value.as_rows().map(|rows| rows.at(rows.axis + rank - shape.len()));
    let (left_rows, right_rows) = (place(left, &left_shape), place(right, &right_shape));
    if let Some(rows) = left_rows.as_ref().filter(|rows| rows.axis == rank - 1) {
        return op.takes_rows_together(first, rows.axis + left_shape.len() - rank);
    }
    if let Some(rows) = right_rows.as_ref().filter(|rows| rows.axis == rank - 2 || is_vector) {
        return op.takes_rows_together(second, (rows.axis + right_shape.len()).saturating_sub(rank));
    }
    for (index, value) in [(first, left), (second, right)] {
        if !matches!(value.flow, Flow::Rows(_) | Flow::Constant) {
            return mixes(format!("the number of rows or their positions in '{}' are computed with", op.name(index)));
        }
    }
    let alone = |rows: Rows, other: &SymbolicShape, index: usize| -> Ruled<Rows> {
        match batch(other, rows.axis).filter(|_| rows.axis < rank - 2) {
            None | Some(Extent::Number(1)) => Ok(rows),
            Some(_) => unproven(format!("'{}' has entries of its own along the axis of the batch", op.name(index))),
        }
    };
    let rows = match (left_rows, right_rows) {
        (Some(left), Some(right)) if left == right && left.axis < rank - 2 => left,
        (Some(left), Some(right)) if left.axis != right.axis => {
            return mixes(format!("each row of '{}' meets each row of '{}'", op.name(first), op.name(second)));
        }
        (Some(_), Some(_)) => {
            return unproven(format!(
                "'{}' and '{}' have different numbers of entries for a row",
                op.name(first),
                op.name(second)
            ));
        }
        (Some(rows), None) => alone(rows, &right_shape, second)?,
        (None, Some(rows)) => alone(rows, &left_shape, first)?,
        (None, None) => return Ok(Value::constant(left.element, Some(extents.into()))),
    };
    Ok(Value::rows(rows, left.element, Some(extents.into())))
}

fn gemm(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Value> {
    if op.shape(0)?.len() != 2 || op.shape(1)?.len() != 2 {
        return unproven("its operands are no matrices");
    }
    let operand = |index: usize, transposed: &str| {
        if op.integer(transposed, 0) != 0 { with_last_axes_swapped(op, index) } else { op.required(index).cloned() }
    };
    let (first, second) = (operand(0, "transA")?, operand(1, "transB")?);
    let product = product(op, [(0, &first), (1, &second)], symbols)?;
    let Some(added) = op.input(2) else { return Ok(product) };
    let names: Vec<Option<Value>> = vec![None, None, Some(added.clone()), Some(product.clone())];
    let sum = Op { node: op.node, inputs: names, opset: op.opset };
    let (flow, _) = elementwise::broadcast(&sum, &[3, 2], symbols)?;
    Ok(Value::of(flow, product.shape, product.element))
}

/// Of the letters of an equation, the one that stands for the rows must be kept, and stand for the rows in all operands.
fn einsum(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Value> {
    let equation: String = op.text("equation").unwrap_or_default().split_whitespace().collect();
    let (operands, output) = match equation.split_once("->") {
        Some((operands, output)) => (operands.to_owned(), output.to_owned()),
        None => return unproven(format!("the equation '{equation}' does not say its output")),
    };
    if equation.contains('.') {
        return unproven(format!("the equation '{equation}' leaves axes open"));
    }
    let mut letter: Option<(char, Rows)> = None;
    let mut extents = std::collections::HashMap::new();
    for (index, letters) in operands.split(',').enumerate() {
        let (value, shape) = (op.required(index)?, op.shape(index)?);
        let letters: Vec<char> = letters.chars().collect();
        if letters.len() != shape.len() {
            return unproven(format!("the equation '{equation}' has other axes than '{}'", op.name(index)));
        }
        for (letter, extent) in letters.iter().zip(shape.iter()) {
            let known = extents.entry(*letter).or_insert_with(|| extent.clone());
            *known = symbols.broadcast(known, extent);
        }
        match &value.flow {
            Flow::Constant => {}
            Flow::Rows(rows) => {
                let own = letters[rows.axis];
                if letters.iter().filter(|other| **other == own).count() > 1 {
                    return mixes(format!("'{equation}' takes the diagonal over the rows of '{}'", op.name(index)));
                }
                match &letter {
                    None => letter = Some((own, rows.at(0))),
                    Some((other, _)) if *other != own => {
                        return mixes(format!("'{equation}' has each row of '{}' meet each other row", op.name(index)));
                    }
                    Some((_, first)) if *first == rows.at(0) => {}
                    Some(_) => return unproven("its operands have different numbers of entries for a row"),
                }
            }
            _ => {
                return mixes(format!(
                    "the number of rows or their positions in '{}' are computed with",
                    op.name(index)
                ));
            }
        }
    }
    let shape = output.chars().map(|letter| extents.get(&letter).cloned()).collect::<Option<Vec<Extent>>>();
    let Some((letter, rows)) = letter else { return Ok(Value::constant(op.element(0), shape.map(Into::into))) };
    for (index, letters) in operands.split(',').enumerate() {
        let place = letters.chars().position(|other| other == letter);
        if let Some(place) = place.filter(|_| !op.has_rows(index))
            && !op.shape(index)?[place].is_one()
        {
            return unproven(format!("'{}' has entries of its own along the axis of the batch", op.name(index)));
        }
    }
    match output.chars().position(|other| other == letter) {
        Some(axis) => Ok(Value::rows(rows.at(axis), op.element(0), shape.map(Into::into))),
        None => mixes(format!("'{equation}' sums over '{letter}', along which the rows of the batch lie")),
    }
}
