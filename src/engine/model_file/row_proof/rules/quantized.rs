//! Quantised operators: scales that are part of the model mix nothing, scales of a batch do.

use super::{
    super::{
        super::onnx::{FLOAT, INT32},
        extent::Extent,
        symbols::Symbols,
        value::Value,
    },
    Op, Ruled, elementwise, mixes, products, reductions, unproven,
};

/// True if an operator of `com.microsoft` is one of these.
pub(super) fn has_rule_of_microsoft(operator: &str) -> bool {
    matches!(
        operator,
        "DequantizeLinear"
            | "DynamicQuantizeLSTM"
            | "DynamicQuantizeMatMul"
            | "MatMulIntegerToFloat"
            | "MulInteger"
            | "QGemm"
            | "QLinearAdd"
            | "QLinearConcat"
            | "QLinearLeakyRelu"
            | "QLinearMul"
            | "QLinearReduceMean"
            | "QLinearSigmoid"
            | "QLinearSoftmax"
            | "QLinearWhere"
            | "QuantizeLinear"
    )
}

pub(super) fn apply(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Vec<Value>> {
    let value = match op.node.operator.as_str() {
        "DynamicQuantizeLinear" | "DynamicQuantizeMatMul" | "DynamicQuantizeLSTM" => {
            return mixes(format!(
                "the smallest and largest elements of '{}' in all rows decide how each is rounded",
                op.name(0)
            ));
        }
        "QuantizeLinear" | "DequantizeLinear" => {
            quantisation_fits(op, &[1, 2])?;
            let element = if op.node.operator == "DequantizeLinear" { op.element(1) } else { op.element(2) };
            Value { element, ..op.required(0)?.computed() }
        }
        "QLinearMatMul" => {
            parameters_are_scalars(op, &[1, 2, 6, 7])?;
            parameters_are_lists(op, &[4, 5])?;
            products::matmul(op, [0, 3], symbols)?
        }
        "MatMulInteger" => {
            parameters_are_scalars(op, &[2])?;
            parameters_are_lists(op, &[3])?;
            Value { element: INT32, ..products::matmul(op, [0, 1], symbols)? }
        }
        "MatMulIntegerToFloat" => {
            parameters_are_scalars(op, &[2, 4])?;
            parameters_are_lists(op, &[3, 5, 6])?;
            Value { element: FLOAT, ..products::matmul(op, [0, 1], symbols)? }
        }
        "QGemm" => {
            if op.integer("transA", 0) != 0 {
                return op.takes_rows_together(0, 0);
            }
            op.must_all_be_constant(1..op.inputs.len())?;
            parameters_are_lists(op, &[1, 2, 4, 5, 6, 7, 8])?;
            let transposed = op.integer("transB", 0) != 0;
            let columns = op.shape(3)?.get(usize::from(!transposed)).cloned();
            products::last_axis_replaced(op, columns.unwrap_or(Extent::ONE))?
        }
        "QLinearAdd" | "QLinearMul" | "MulInteger" => {
            let second = if op.node.operator == "MulInteger" { 2 } else { 3 };
            let others = (1..op.inputs.len()).filter(|index| *index != second);
            op.must_all_be_constant(others)?;
            pair(op, [0, second], symbols)?
        }
        "QLinearSigmoid" | "QLinearLeakyRelu" => {
            op.must_all_be_constant(1..op.inputs.len())?;
            op.required(0)?.computed()
        }
        "QLinearSoftmax" => {
            op.must_all_be_constant(1..op.inputs.len())?;
            let axis = op.axis(op.integer("axis", -1), op.shape(0)?.len())?;
            // It may flatten the axes behind, as the operator set says that is named beside.
            if op.rows(0)?.axis >= axis {
                return op.takes_rows_together(0, axis);
            }
            op.required(0)?.computed()
        }
        "QLinearReduceMean" => {
            op.must_all_be_constant(1..op.inputs.len())?;
            reductions::reduced_by_attribute(op, symbols)?
        }
        operator => return unproven(format!("nothing is known of the operator {operator} of com.microsoft")),
    };
    Ok(vec![value])
}

fn pair(op: &Op<'_>, operands: [usize; 2], symbols: &mut Symbols) -> Ruled<Value> {
    let (flow, shape) = elementwise::broadcast(op, &operands, symbols)?;
    Ok(Value::of(flow, shape, op.element(0)))
}

/// Scales and zero points belong to the model, and not to entries along the rows' axis.
fn quantisation_fits(op: &Op<'_>, parameters: &[usize]) -> Ruled<()> {
    op.must_all_be_constant(parameters.iter().copied())?;
    if op.required(0)?.is_constant() {
        return Ok(());
    }
    let (rows, rank) = (op.rows(0)?, op.required(0)?.rank());
    for index in parameters.iter().filter(|index| op.input(**index).is_some()) {
        let shape = op.shape(*index)?;
        let along_rows = match shape.len() {
            0 => None,
            1 if shape[0].is_one() => None,
            1 => {
                let Some(rank) = rank else { return unproven(format!("the rank of '{}' is not known", op.name(0))) };
                let axis = op.axis(op.integer("axis", 1), rank)?;
                (axis == rows.axis).then(|| &shape[0])
            }
            _ => shape.get(rows.axis),
        };
        if along_rows.is_some_and(|extent| !extent.is_one()) {
            return unproven(format!("'{}' has entries of its own along the axis of the batch", op.name(*index)));
        }
    }
    Ok(())
}

/// Scales and zero points of the left operand, of which there must be one for all rows.
fn parameters_are_scalars(op: &Op<'_>, parameters: &[usize]) -> Ruled<()> {
    op.must_all_be_constant(parameters.iter().copied())?;
    for index in parameters.iter().filter(|index| op.input(**index).is_some()) {
        if !op.shape(*index)?.iter().all(Extent::is_one) {
            return unproven(format!("'{}' has several elements", op.name(*index)));
        }
    }
    Ok(())
}

/// Scales, zero points and biases of the columns, which must not have entries for rows.
fn parameters_are_lists(op: &Op<'_>, parameters: &[usize]) -> Ruled<()> {
    op.must_all_be_constant(parameters.iter().copied())?;
    for index in parameters.iter().filter(|index| op.input(**index).is_some()) {
        let shape = op.shape(*index)?;
        if !shape.iter().rev().skip(1).all(Extent::is_one) {
            return unproven(format!("'{}' has entries of its own along several axes", op.name(*index)));
        }
    }
    Ok(())
}
