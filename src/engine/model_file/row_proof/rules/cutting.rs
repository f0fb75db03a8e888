//! Operators that take parts of axes, or add to them.

use super::{
    super::{
        super::onnx::INT64,
        extent::Extent,
        symbols::Symbols,
        value::{Flow, Rows, Value},
    },
    Op, Ruled, arithmetic, mixes, unproven,
};

pub(super) fn apply(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Vec<Value>> {
    match op.node.operator.as_str() {
        "Slice" => slice(op, symbols).map(|value| vec![value]),
        "Split" => split(op, symbols),
        "Pad" => pad(op, symbols).map(|value| vec![value]),
        "TopK" => top_k(op, symbols),
        "OneHot" => one_hot(op, symbols).map(|value| vec![value]),
        "Trilu" => {
            let (value, rank) = (op.required(0)?, op.shape(0)?.len());
            op.must_be_constant(1)?;
            match &value.flow {
                Flow::Rows(rows) if rows.axis + 2 >= rank => op.takes_rows_together(0, rows.axis),
                Flow::Rows(_) | Flow::Constant => Ok(vec![value.computed()]),
                _ => unproven(format!("a triangle of '{}' is not followed", op.name(0))),
            }
        }
        "ReverseSequence" => reverse_sequence(op).map(|value| vec![value]),
        _ => compress(op, symbols).map(|value| vec![value]),
    }
}

/// One axis of a slice.
struct Cut {
    axis: usize,
    start: Option<Extent>,
    end: Option<Extent>,
    step: Option<i64>,
}

/// The axes of a slice, by attributes or inputs; what is not known is `None`.
fn cuts(op: &Op<'_>, rank: usize) -> Ruled<Vec<Cut>> {
    if let (Some(starts), Some(ends)) = (op.integers("starts"), op.integers("ends")) {
        let axes = op.integers("axes");
        let cut = |(index, (start, end)): (usize, (&i64, &i64))| {
            let axis = axes.and_then(|axes| axes.get(index)).copied().unwrap_or(index as i64);
            let (start, end) = (Some(Extent::Number(*start)), Some(Extent::Number(*end)));
            Ok(Cut { axis: op.axis(axis, rank)?, start, end, step: Some(1) })
        };
        return starts.iter().zip(ends).enumerate().map(cut).collect();
    }
    let given = |index: usize| -> Ruled<Option<Vec<Extent>>> {
        let Some(value) = op.input(index) else { return Ok(None) };
        op.holds_no_rows(value, index)?;
        Ok(value.data.as_ref().map(|data| data.to_vec()))
    };
    let (starts, ends) = (given(1)?, given(2)?);
    let axes = op.input(3).map(|_| op.numbers(3)).transpose()?;
    let steps = given(4)?.map(|steps| steps.iter().map(Extent::number).collect::<Option<Vec<i64>>>());
    let count = axes.as_ref().map(Vec::len).or(starts.as_ref().map(Vec::len)).or(ends.as_ref().map(Vec::len));
    let Some(count) = count else { return unproven("which axes are cut is not known") };
    let at = |all: &Option<Vec<Extent>>, index: usize| all.as_ref().and_then(|all| all.get(index).cloned());
    let cut = |index: usize| {
        let axis = axes.as_ref().map_or(index as i64, |axes| axes.get(index).copied().unwrap_or(index as i64));
        let step = match &steps {
            Some(steps) => steps.as_ref().and_then(|steps| steps.get(index).copied()),
            None => op.input(4).is_none().then_some(1),
        };
        Ok(Cut { axis: op.axis(axis, rank)?, start: at(&starts, index), end: at(&ends, index), step })
    };
    (0..count).map(cut).collect()
}

/// An end that stands for the end of any axis: no batch and no tensor has so many entries.
const END: i64 = 1_000_000_000;

fn slice(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Value> {
    let (value, shape) = (op.required(0)?, op.shape(0)?.clone());
    if !value.is_without_rows() && !matches!(value.flow, Flow::Rows(_)) {
        return unproven(format!("'{}' holds positions of rows", op.name(0)));
    }
    let cuts = cuts(op, shape.len())?;
    let mut extents = shape.to_vec();
    for cut in &cuts {
        let own = &shape[cut.axis];
        let is_whole = cut.step == Some(1)
            && cut.start == Some(Extent::ZERO)
            && cut.end.as_ref().is_some_and(|end| end == own || end.number().is_some_and(|end| end >= END));
        if is_whole {
            continue;
        }
        if value.as_rows().is_some_and(|rows| rows.axis == cut.axis) {
            return mixes(format!(
                "it takes a part of axis {} of '{}', which holds the rows of the batch",
                cut.axis,
                op.name(0)
            ));
        }
        if cut.step.is_none() {
            op.must_be_constant(4)?;
        }
        if [&cut.start, &cut.end].into_iter().flatten().any(|bound| symbols.is_of_batch(bound)) {
            return mixes(format!("the number of rows decides which part of '{}' is taken", op.name(0)));
        }
        extents[cut.axis] = length(own, cut, symbols);
    }
    if !value.is_constant()
        && op.inputs.iter().skip(1).flatten().any(|bound| matches!(bound.flow, Flow::BatchSize) && bound.data.is_none())
    {
        return mixes(format!("the number of rows decides which part of '{}' is taken", op.name(0)));
    }
    if let (Some(_), [cut]) = (&value.data, cuts.as_slice())
        && let Some(picked) = picked(value, &shape, cut, symbols)
    {
        return Ok(picked);
    }
    if matches!(value.flow, Flow::BatchSize) {
        return unproven(format!("which part of '{}' is taken is not known", op.name(0)));
    }
    Ok(Value { shape: Some(extents.into()), data: None, ..value.clone() })
}

/// The known elements that a slice takes along one axis.
fn picked(value: &Value, shape: &[Extent], cut: &Cut, symbols: &Symbols) -> Option<Value> {
    let data = value.data.as_ref()?;
    let (start, end, step) = (cut.start.as_ref()?.number()?, cut.end.as_ref()?.number()?, cut.step?);
    let mut extents = arithmetic::numbers(shape)?;
    if extents.iter().try_fold(1_usize, |count, extent| count.checked_mul(*extent))? != data.len() || data.is_empty() {
        return None;
    }
    let length = extents[cut.axis] as i64;
    let from_end = |bound: i64| if bound < 0 { bound.saturating_add(length) } else { bound };
    let (start, end) = (from_end(start), from_end(end));
    let indices: Vec<i64> = match step {
        1.. => (start.clamp(0, length)..end.clamp(0, length)).step_by(usize::try_from(step).ok()?).collect(),
        -1 => (end.clamp(-1, length - 1) + 1..=start.clamp(-1, length - 1)).rev().collect(),
        _ => return None,
    };
    let inner: usize = extents[cut.axis + 1..].iter().product();
    let outer: usize = extents[..cut.axis].iter().product();
    let mut elements = Vec::with_capacity(data.len());
    for block in 0..outer {
        for index in &indices {
            let start = (block * extents[cut.axis] + usize::try_from(*index).ok()?) * inner;
            elements.extend_from_slice(data.get(start..start + inner)?);
        }
    }
    extents[cut.axis] = indices.len();
    let shape = extents.into_iter().map(|extent| Extent::Number(extent as i64)).collect();
    Some(Value::known(value.element, shape, elements.into(), symbols))
}

/// The extent that is left of an axis.
fn length(own: &Extent, cut: &Cut, symbols: &mut Symbols) -> Extent {
    let (Some(start), Some(end), Some(1)) = (&cut.start, &cut.end, cut.step) else { return symbols.extent() };
    match (own.number(), start.number(), end.number()) {
        (Some(own @ 0..), Some(start), Some(end)) => {
            let bound = |bound: i64| (if bound < 0 { bound.saturating_add(own) } else { bound }).clamp(0, own);
            Extent::Number((bound(end) - bound(start)).max(0))
        }
        (None, Some(start), Some(end)) if start < 0 && end >= END => symbols.min(own, start.saturating_neg()),
        (None, Some(start @ 0..), Some(end)) if end >= END => {
            let rest = symbols.sub(own, &Extent::Number(start));
            symbols.or_zero(&rest)
        }
        (None, Some(start @ 0..), Some(end)) if end < 0 => {
            let end = symbols.add(own, &Extent::Number(end));
            let rest = symbols.sub(&end, &Extent::Number(start));
            symbols.or_zero(&rest)
        }
        (None, Some(0), Some(end)) => symbols.min(own, end),
        (Some(own @ 0..), Some(0), None) if symbols.is_nonnegative(end) => symbols.min(end, own),
        _ => symbols.extent(),
    }
}

fn split(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Vec<Value>> {
    let (value, shape) = (op.required(0)?, op.shape(0)?.clone());
    let axis = op.axis(op.integer("axis", 0), shape.len())?;
    let count = op.node.outputs.len() as i64;
    let given: Option<Vec<Extent>> = match (op.integers("split"), op.input(1)) {
        (Some(sizes), _) => Some(sizes.iter().map(|size| Extent::Number(*size)).collect()),
        (None, None) => None,
        (None, Some(sizes)) => {
            op.holds_no_rows(sizes, 1)?;
            let unknown = |symbols: &mut Symbols| (0..count).map(|_| symbols.extent()).collect();
            Some(sizes.data.as_ref().map_or_else(|| unknown(symbols), |data| data.to_vec()))
        }
    };
    let equal = shape[axis].div_exact(&Extent::Number(count));
    let sizes =
        given.unwrap_or_else(|| (0..count).map(|_| equal.clone().unwrap_or_else(|| symbols.extent())).collect());
    // Of a list whose parts are known the elements are.
    let lengths: Option<Vec<usize>> = sizes.iter().map(|size| usize::try_from(size.number()?).ok()).collect();
    let lengths = lengths.filter(|_| shape.len() == 1);
    let mut taken = 0_usize;
    let mut parts = Vec::with_capacity(sizes.len());
    for (index, size) in sizes.into_iter().enumerate() {
        let mut extents = shape.to_vec();
        extents[axis] = size.clone();
        let (flow, data) = match &value.flow {
            Flow::Rows(rows) if rows.axis == axis => (Flow::Rows(part(op, rows, &size, symbols)?), None),
            Flow::Rows(_) | Flow::Constant if symbols.is_of_batch(&size) => {
                return mixes(format!("the number of rows decides how '{}' is split", op.name(0)));
            }
            Flow::Rows(_) => (value.flow.clone(), None),
            _ => {
                let end = lengths.as_ref().and_then(|lengths| taken.checked_add(lengths[index]));
                let data = value.data.as_ref().zip(end).and_then(|(data, end)| data.get(taken..end));
                taken = end.unwrap_or(taken);
                (value.flow.clone(), data.map(Into::into))
            }
        };
        if !matches!(flow, Flow::Rows(_) | Flow::Constant) && data.is_none() {
            return unproven(format!("how '{}' is split is not known", op.name(0)));
        }
        parts.push(Value { data, ..Value::of(flow, Some(extents.into()), value.element) });
    }
    Ok(parts)
}

/// A part of the axis of the rows, which must hold whole batches, as those that were joined one behind the other.
fn part(op: &Op<'_>, rows: &Rows, size: &Extent, symbols: &mut Symbols) -> Ruled<Rows> {
    let outer = symbols.per_row(size).and_then(|entries| entries.div_exact(&rows.inner));
    match outer {
        Some(outer) => Ok(Rows { outer, ..rows.clone() }),
        None => {
            mixes(format!("it takes axis {} of '{}' apart, which holds the rows of the batch", rows.axis, op.name(0)))
        }
    }
}

fn pad(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Value> {
    let (value, shape) = (op.required(0)?, op.shape(0)?.clone());
    let rank = shape.len();
    let pads = match op.integers("pads").or_else(|| op.integers("paddings")) {
        Some(pads) => pads.iter().map(|pad| Extent::Number(*pad)).collect(),
        None => op.extents(1)?.to_vec(),
    };
    op.must_be_constant(2)?;
    let axes: Vec<usize> = match op.input(3) {
        Some(_) => op.numbers(3)?.into_iter().map(|axis| op.axis(axis, rank)).collect::<Ruled<_>>()?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return unproven(format!("it has {} paddings for {} axes", pads.len(), axes.len()));
    }
    let mut extents = shape.to_vec();
    for (index, axis) in axes.iter().enumerate() {
        let (before, behind) = (&pads[index], &pads[index + axes.len()]);
        if before.is_zero() && behind.is_zero() {
            continue;
        }
        if value.as_rows().is_some_and(|rows| rows.axis == *axis) {
            return mixes(format!("it pads axis {axis} of '{}', which holds the rows of the batch", op.name(0)));
        }
        if symbols.is_of_batch(before) || symbols.is_of_batch(behind) {
            return mixes(format!("the number of rows decides how '{}' is padded", op.name(0)));
        }
        let longer = symbols.add(&extents[*axis], before);
        extents[*axis] = symbols.add(&longer, behind);
    }
    match value.flow {
        Flow::Rows(_) | Flow::Constant => Ok(Value { shape: Some(extents.into()), ..value.computed() }),
        _ => unproven(format!("'{}' is padded", op.name(0))),
    }
}

fn top_k(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Vec<Value>> {
    let (rows, shape) = (op.rows(0)?, op.shape(0)?);
    let axis = op.axis(op.integer("axis", -1), shape.len())?;
    if axis == rows.axis {
        return op.takes_rows_together(0, axis);
    }
    op.must_be_constant(1)?;
    let count = match op.attribute("k") {
        Some(count) => Extent::Number(count.integer),
        None => op.required(1)?.scalar().cloned().unwrap_or_else(|| symbols.extent()),
    };
    let mut extents = shape.to_vec();
    extents[axis] = count;
    let values = Value::rows(rows.clone(), op.element(0), Some(extents.into()));
    let indices = Value { element: INT64, below: Some(shape[axis].clone()), ..values.clone() };
    Ok(vec![values, indices])
}

fn one_hot(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Value> {
    let depth = op.required(1)?;
    op.holds_no_rows(depth, 1)?;
    op.must_all_be_constant([1, 2])?;
    let (rows, shape) = (op.rows(0)?, op.shape(0)?);
    let axis = op.axis(op.integer("axis", -1), shape.len() + 1)?;
    let mut extents = shape.to_vec();
    extents.insert(axis, depth.scalar().cloned().unwrap_or_else(|| symbols.extent()));
    let rows = rows.at(rows.axis + usize::from(axis <= rows.axis));
    Ok(Value::rows(rows, op.element(2), Some(extents.into())))
}

fn reverse_sequence(op: &Op<'_>) -> Ruled<Value> {
    let (value, rows, rank) = (op.required(0)?, op.rows(0)?, op.shape(0)?.len());
    let time = op.axis(op.integer("time_axis", 0), rank)?;
    let batch = op.axis(op.integer("batch_axis", 1), rank)?;
    if rows.axis == time {
        return op.takes_rows_together(0, time);
    }
    let lengths_fit = match op.required(1)?.as_rows() {
        Some(lengths) => rows.axis == batch && *lengths == rows.at(0),
        None => op.required(1)?.is_constant() && rows.axis != batch,
    };
    if lengths_fit {
        Ok(value.clone())
    } else {
        unproven(format!("'{}' does not hold one length for each row", op.name(1)))
    }
}

fn compress(op: &Op<'_>, symbols: &mut Symbols) -> Ruled<Value> {
    let (rows, shape) = (op.rows(0)?, op.shape(0)?);
    op.holds_no_rows(op.required(1)?, 1)?;
    op.must_be_constant(1)?;
    let Some(axis) = op.attribute("axis") else { return op.takes_rows_together(0, rows.axis) };
    let axis = op.axis(axis.integer, shape.len())?;
    if axis == rows.axis {
        return op.takes_rows_together(0, axis);
    }
    let mut extents = shape.to_vec();
    extents[axis] = symbols.extent();
    Ok(Value::rows(rows.clone(), op.element(0), Some(extents.into())))
}
