//! Operators for which axis 0 holds samples by definition: convolutions, pools, normalisations of channels, images.

use super::{
    super::{
        extent::Extent,
        symbols::Symbols,
        value::{Flow, Rows, Value},
    },
    Op, Ruled, SymbolicShape, mixes, unproven,
};

/// True if an operator of ONNX is one of these.
pub(super) fn has_rule(operator: &str) -> bool {
    matches!(
        operator,
        "AffineGrid"
            | "AveragePool"
            | "BatchNormalization"
            | "CenterCropPad"
            | "Col2Im"
            | "Conv"
            | "ConvInteger"
            | "ConvTranspose"
            | "DeformConv"
            | "DepthToSpace"
            | "GlobalAveragePool"
            | "GlobalLpPool"
            | "GlobalMaxPool"
            | "GridSample"
            | "GroupNormalization"
            | "InstanceNormalization"
            | "LRN"
            | "LpPool"
            | "MaxPool"
            | "QLinearConv"
            | "Resize"
            | "SpaceToDepth"
            | "Upsample"
    )
}

/// True if an operator of `com.microsoft` is one of these.
pub(super) fn has_rule_of_microsoft(operator: &str) -> bool {
    matches!(
        operator,
        "ConvTransposeWithDynamicPads"
            | "FusedConv"
            | "GridSample"
            | "GroupNorm"
            | "NhwcFusedConv"
            | "NhwcMaxPool"
            | "QLinearAveragePool"
            | "QLinearConv"
            | "QLinearConvTranspose"
            | "QLinearGlobalAveragePool"
    )
}

pub(super) fn apply(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Vec<Value>> {
    match op.node.operator.as_str() {
        "Resize" | "Upsample" => return resize(op, symbols).map(|value| vec![value]),
        "AffineGrid" => return affine_grid(op, symbols).map(|value| vec![value]),
        "CenterCropPad" => return unproven("nothing is known of the operator CenterCropPad"),
        "BatchNormalization" => return batch_norm(op),
        _ => {}
    }
    // Inputs other than the first that may hold rows, along axis 0 as well.
    let with_rows: &[usize] = match op.node.operator.as_str() {
        "DeformConv" => &[2, 4],
        "GridSample" => &[1],
        "FusedConv" | "NhwcFusedConv" => &[3],
        _ => &[],
    };
    let rows = first_axis_rows(op, with_rows)?;
    let shape = op.shape(0)?.clone();
    let Some(channels) = shape.get(1) else { return unproven(format!("'{}' has no channels", op.name(0))) };
    let weight = |index: usize, axis: usize, symbols: &mut Symbols| {
        let shape = op.input(index).and_then(|weights| weights.shape.clone());
        shape.and_then(|shape| shape.get(axis).cloned()).unwrap_or_else(|| symbols.extent())
    };
    let start = [shape[0].clone()];
    let shape: Option<SymbolicShape> = match op.node.operator.as_str() {
        "InstanceNormalization" | "GroupNormalization" | "LRN" | "GroupNorm" => Some(shape.clone()),
        "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" => {
            Some(start.into_iter().chain([channels.clone()]).chain(shape[2..].iter().map(|_| Extent::ONE)).collect())
        }
        "Conv" | "ConvInteger" | "FusedConv" | "QLinearConv" if op.integer("channels_last", 0) == 0 => {
            let index = if op.node.operator == "QLinearConv" { 3 } else { 1 };
            let kernel = op.input(index).and_then(|weights| weights.shape.clone());
            let kernel = kernel.filter(|kernel| kernel.len() == shape.len());
            let channels = weight(index, 0, symbols);
            let spatial = spatial(op, &shape, kernel.as_ref().map(|kernel| &kernel[2..]), symbols);
            Some(start.into_iter().chain([channels]).chain(spatial).collect())
        }
        "MaxPool" | "AveragePool" | "LpPool" => {
            let spatial = spatial(op, &shape, None, symbols);
            Some(start.into_iter().chain([channels.clone()]).chain(spatial).collect())
        }
        "ConvTranspose" => {
            let groups = Extent::Number(op.integer("group", 1));
            let channels = weight(1, 1, symbols);
            let channels = symbols.mul(&channels, &groups);
            let spatial = transposed(op, &shape, symbols);
            Some(start.into_iter().chain([channels]).chain(spatial).collect())
        }
        "DepthToSpace" | "SpaceToDepth" => Some(blocks(op, &shape, symbols)),
        "GridSample" => {
            let grid = op.shape(1)?;
            if grid.len() < 2 {
                return unproven(format!("'{}' has {} axes", op.name(1), grid.len()));
            }
            Some(start.into_iter().chain([channels.clone()]).chain(grid[1..grid.len() - 1].iter().cloned()).collect())
        }
        "Col2Im" => None,
        _ => Some(start.into_iter().chain(shape[1..].iter().map(|_| symbols.extent())).collect()),
    };
    let value = Value::rows(rows, op.element(0), shape);
    // MaxPool's second output numbers the elements of the whole batch.
    let is_numbered = op.node.operator == "MaxPool" && op.node.outputs.get(1).is_some_and(|name| !name.is_empty());
    if is_numbered {
        return mixes(format!("'{}' numbers elements of the whole batch", op.node.outputs[1]));
    }
    Ok(vec![value])
}

/// The rows of the first input, which must lie along axis 0, as must those of other inputs that hold some; all else is constant.
fn first_axis_rows(op: &Op<'_>, with_rows: &[usize]) -> Ruled<Rows> {
    let rows = op.rows(0)?;
    if rows.axis != 0 {
        return op.takes_rows_together(0, rows.axis);
    }
    for index in 1..op.inputs.len() {
        match op.input(index).and_then(Value::as_rows) {
            Some(own) if own == rows && with_rows.contains(&index) => {}
            _ if with_rows.contains(&index) && op.has_rows(index) => {
                return unproven(format!("'{}' does not hold the rows along axis 0", op.name(index)));
            }
            // Entries of its own along axis 0 would belong to positions in the batch.
            _ if with_rows.contains(&index) && op.input(index).is_some() => {
                return unproven(format!("'{}' holds no rows", op.name(index)));
            }
            _ => op.must_be_constant(index)?,
        }
    }
    Ok(rows.clone())
}

/// Extents of the spatial axes behind a convolution or pool: `floor((extent + pads - dilation * (kernel - 1) - 1) / stride) + 1`
/// (ONNX, Conv and MaxPool).
fn spatial(op: &Op<'_>, shape: &SymbolicShape, weights: Option<&[Extent]>, symbols: &mut Symbols) -> Vec<Extent> {
    let axes = shape.len() - 2;
    let attribute = |name: &str, axis: usize, default: i64| {
        op.integers(name).and_then(|values| values.get(axis)).copied().unwrap_or(default)
    };
    let auto = op.text("auto_pad").unwrap_or("NOTSET");
    (0..axes)
        .map(|axis| {
            let extent = &shape[axis + 2];
            let stride = Extent::Number(attribute("strides", axis, 1).max(1));
            if auto.starts_with("SAME") {
                // ONNX Runtime pads pools as if they were not dilated.
                let is_dilated = attribute("dilations", axis, 1) != 1;
                return if is_dilated { symbols.extent() } else { symbols.ceil_div(extent, &stride) };
            }
            let of_weights = weights.and_then(|weights| weights[axis].number());
            let kernel = op.integers("kernel_shape").and_then(|kernel| kernel.get(axis)).copied().or(of_weights);
            let Some(kernel) = kernel else { return symbols.extent() };
            let pads = match auto {
                "VALID" => 0,
                _ => attribute("pads", axis, 0).saturating_add(attribute("pads", axis + axes, 0)),
            };
            let reach = attribute("dilations", axis, 1).saturating_mul(kernel.saturating_sub(1));
            let rest = symbols.add(extent, &Extent::Number(pads.saturating_sub(reach).saturating_sub(1)));
            let steps = match op.integer("ceil_mode", 0) {
                // ONNX Runtime divides towards zero.
                0 => match (&rest, &stride) {
                    (Extent::Number(rest), Extent::Number(stride)) => Extent::Number(rest / stride),
                    _ if symbols.is_nonnegative(&rest) => symbols.floor_div(&rest, &stride),
                    _ => return symbols.extent(),
                },
                // A last window that would begin in the padding is left out.
                _ => return symbols.extent(),
            };
            symbols.add(&steps, &Extent::ONE)
        })
        .collect()
}

/// Extents behind a transposed convolution: `stride * (extent - 1) + output_padding + dilation * (kernel - 1) + 1 - pads`.
fn transposed(op: &Op<'_>, shape: &SymbolicShape, symbols: &mut Symbols) -> Vec<Extent> {
    let axes = shape.len() - 2;
    let kernel = op.input(1).and_then(|weights| weights.shape.clone()).filter(|kernel| kernel.len() == shape.len());
    let attribute = |name: &str, axis: usize, default: i64| {
        op.integers(name).and_then(|values| values.get(axis)).copied().unwrap_or(default)
    };
    let is_plain = op.integers("output_shape").is_none() && matches!(op.text("auto_pad"), None | Some("NOTSET" | ""));
    (0..axes)
        .map(|axis| {
            let own = op.integers("kernel_shape").and_then(|kernel| kernel.get(axis)).copied();
            let own = own.or_else(|| kernel.as_ref()?[axis + 2].number());
            let Some(kernel) = own.filter(|_| is_plain) else { return symbols.extent() };
            let reach = attribute("dilations", axis, 1).saturating_mul(kernel.saturating_sub(1));
            let pads = attribute("pads", axis, 0).saturating_add(attribute("pads", axis + axes, 0));
            let more =
                attribute("output_padding", axis, 0).saturating_add(reach).saturating_add(1).saturating_sub(pads);
            let steps = symbols.sub(&shape[axis + 2], &Extent::ONE);
            let steps = symbols.mul(&steps, &Extent::Number(attribute("strides", axis, 1)));
            symbols.add(&steps, &Extent::Number(more))
        })
        .collect()
}

fn blocks(op: &Op<'_>, shape: &SymbolicShape, symbols: &mut Symbols) -> SymbolicShape {
    let block = Extent::Number(op.integer("blocksize", 1).clamp(1, 1 << 16));
    let square = symbols.mul(&block, &block);
    let is_depth = op.node.operator == "SpaceToDepth";
    let extent = |(axis, extent): (usize, &Extent)| match (axis, is_depth) {
        (0, _) => extent.clone(),
        (1, true) => symbols.mul(extent, &square),
        (1, false) => symbols.floor_div(extent, &square),
        (_, true) => symbols.floor_div(extent, &block),
        (_, false) => symbols.mul(extent, &block),
    };
    shape.iter().enumerate().map(extent).collect()
}

fn batch_norm(op: &Op<'_>) -> Ruled<Vec<Value>> {
    let is_training = op.integer("training_mode", 0) != 0
        || op.opset < 14 && op.node.outputs.iter().skip(1).any(|name| !name.is_empty())
        || op.opset < 7 && op.integer("is_test", 0) == 0;
    if is_training {
        return mixes("in training mode it normalises by the mean and variance of all rows");
    }
    let rows = op.rows(0)?;
    if rows.axis == 1 {
        return op.takes_rows_together(0, 1);
    }
    op.must_all_be_constant(1..op.inputs.len())?;
    Ok(vec![op.required(0)?.computed()])
}

/// Along axis 0 an image must stay what it is: a scale of 1, or the extent that is the batch.
fn resize(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Value> {
    let (value, rows, shape) = (op.required(0)?, op.rows(0)?.clone(), op.shape(0)?.clone());
    let rank = shape.len();
    // Linear and cubic ones of fewer axes take the next row with the weight 0, which NaN and infinity show.
    let mode = op.text("mode").unwrap_or("nearest");
    let is_apart = rows.axis < 2 && (rank == 4 || rank == 5 && mode == "linear");
    if mode != "nearest" && !is_apart {
        return mixes(format!("interpolation ({mode}) over {rank} axes takes part of other rows"));
    }
    let axes: Vec<usize> = match op.integers("axes") {
        Some(axes) => axes.iter().map(|axis| op.axis(*axis, rank)).collect::<Ruled<_>>()?,
        None => (0..rank).collect(),
    };
    let Some(place) = axes.iter().position(|axis| *axis == rows.axis) else {
        let extents = (0..rank).map(|axis| if axes.contains(&axis) { symbols.extent() } else { shape[axis].clone() });
        op.must_all_be_constant(1..op.inputs.len())?;
        return Ok(Value::rows(rows, value.element, Some(extents.collect())));
    };
    // Of the first edition the second input has the scales, later it has a region of interest.
    let scales = if op.opset < 11 { 1 } else { 2 };
    let given = |index: usize| op.input(index).filter(|value| value.shape.as_deref() != Some(&[Extent::ZERO]));
    let mut extents = Vec::with_capacity(rank);
    if let Some(sizes) = given(3).filter(|_| op.opset >= 11) {
        op.holds_no_rows(sizes, 3)?;
        let sizes = op.extents(3)?;
        for (axis, own) in shape.iter().enumerate() {
            extents.push(match axes.iter().position(|other| *other == axis) {
                Some(index) => sizes.get(index).cloned().unwrap_or_else(|| symbols.extent()),
                None => own.clone(),
            });
        }
        if op.text("keep_aspect_ratio_policy").is_some_and(|policy| policy != "stretch") {
            return unproven("an aspect ratio that is kept is not followed");
        }
        if extents[rows.axis] != shape[rows.axis] {
            return mixes(format!(
                "it resizes axis {} of '{}', which holds the rows of the batch",
                rows.axis,
                op.name(0)
            ));
        }
    } else {
        let scales = op.extents(scales)?;
        if scales.iter().any(|scale| symbols.is_of_batch(scale)) {
            return mixes("the number of rows decides the size of an image");
        }
        if scales.get(place).is_none_or(|scale| !scale.is_one()) {
            return mixes(format!(
                "it resizes axis {} of '{}', which holds the rows of the batch",
                rows.axis,
                op.name(0)
            ));
        }
        for (axis, own) in shape.iter().enumerate() {
            let scale = axes.iter().position(|other| *other == axis).map(|index| scales.get(index));
            extents.push(match scale {
                None => own.clone(),
                Some(Some(scale)) if scale.number().is_some() => symbols.mul(own, scale),
                _ => symbols.extent(),
            });
        }
    }
    let other = extents.iter().enumerate().find(|(axis, extent)| *axis != rows.axis && symbols.is_of_batch(extent));
    if other.is_some() {
        return mixes("the number of rows decides the size of an image");
    }
    let flow = Flow::Rows(rows);
    Ok(Value::of(flow, Some(extents.into()), value.element))
}

fn affine_grid(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Value> {
    let rows = op.rows(0)?.clone();
    let size = op.extents(1)?;
    if size.len() < 3 {
        return unproven(format!("'{}' has {} elements", op.name(1), size.len()));
    }
    let is_batch = rows == Rows::along(0) && size.first() == Some(&rows.extent(symbols));
    if !is_batch || size.iter().skip(1).any(|extent| symbols.is_of_batch(extent)) {
        return unproven(format!("'{}' does not begin with the number of rows", op.name(1)));
    }
    let last = Extent::Number(size.len() as i64 - 2);
    let extents = [&size[..1], &size[2..], &[last]].concat();
    Ok(Value::rows(rows, op.element(0), Some(extents.into())))
}
