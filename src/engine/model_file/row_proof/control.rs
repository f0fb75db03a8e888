//! Branches and loops: what decides them must be the same for all rows.

use super::{
    super::onnx::{BOOL, GraphProto, INT64},
    extent::Extent,
    rules::{Op, Ruled, mixes, unproven},
    scope::Scope,
    symbols::Symbols,
    value::{Flow, Rows, Value, unproven as unproven_value},
};

/// The interpreter, as far as branches and loops need it.
pub(super) trait Subgraphs {
    /// The values of the outputs of a graph inside another; those of its inputs are given.
    fn subgraph(&mut self, graph: &GraphProto, outer: &Scope<'_>, inputs: Vec<Value>) -> Vec<Value>;

    /// The symbols of the model.
    fn symbols(&mut self) -> &mut Symbols;
}

/// Times that a loop's body is interpreted at most until the values of its states stay the same.
const MAX_ROUNDS: usize = 8;

fn graph<'a>(op: &'a Op<'_>, name: &str) -> Ruled<&'a GraphProto> {
    let attribute = op.node.attributes.iter().find(|attribute| attribute.name == name);
    attribute
        .and_then(|attribute| attribute.graph.as_ref())
        .map_or_else(|| unproven(format!("it has no graph '{name}'")), Ok)
}

/// `If`: the outputs of the branch that is known to be taken, or what both have in common.
pub(super) fn branch<I: Subgraphs>(interpreter: &mut I, op: &Op<'_>, scope: &Scope<'_>) -> Ruled<Vec<Value>> {
    let (then, otherwise) = (graph(op, "then_branch")?, graph(op, "else_branch")?);
    let Some(Some(condition)) = op.inputs.first() else { return unproven("it has no condition") };
    let name = op.node.inputs.first().map_or("", String::as_str);
    match (&condition.flow, condition.scalar().and_then(Extent::number)) {
        (Flow::Constant | Flow::BatchSize, Some(0)) => Ok(interpreter.subgraph(otherwise, scope, Vec::new())),
        (Flow::Constant | Flow::BatchSize, Some(_)) => Ok(interpreter.subgraph(then, scope, Vec::new())),
        (Flow::Constant, None) => {
            let first = interpreter.subgraph(then, scope, Vec::new());
            let second = interpreter.subgraph(otherwise, scope, Vec::new());
            let pairs = first.into_iter().zip(second);
            Ok(pairs.map(|(first, second)| either(first, second, interpreter.symbols())).collect())
        }
        (Flow::BatchSize, None) => mixes(format!("the number of rows decides its condition '{name}'")),
        _ => mixes(format!("rows of the batch decide its condition '{name}', and so for all of them")),
    }
}

/// A value that may be one of two.
fn either(first: Value, second: Value, symbols: &mut Symbols) -> Value {
    for value in [&first, &second] {
        if matches!(value.flow, Flow::Mixed(_)) {
            return Value::of(value.flow.clone(), None, value.element);
        }
    }
    let flow = match (&first.flow, &second.flow) {
        (Flow::Constant, Flow::Constant) => Flow::Constant,
        (Flow::Rows(rows), Flow::Rows(other)) if rows == other => first.flow.clone(),
        (Flow::Unproven(_), _) => return first,
        (_, Flow::Unproven(_)) => return second,
        _ => {
            return unproven_value("If", "its branches, or the turns of a loop, differ in where they hold rows".into());
        }
    };
    let shape = match (&first.shape, &second.shape) {
        (Some(one), Some(other)) if one.len() == other.len() => {
            let extent = |(one, other): (&Extent, &Extent)| if one == other { one.clone() } else { symbols.extent() };
            Some(one.iter().zip(other.iter()).map(extent).collect())
        }
        _ => None,
    };
    let data = first.data.filter(|data| second.data.as_ref() == Some(data));
    Value { data, ..Value::of(flow, shape, first.element) }
}

/// `Loop`: as many turns for all rows, and states that hold the rows in the same way after each.
pub(super) fn repeat<I: Subgraphs>(interpreter: &mut I, op: &Op<'_>, scope: &Scope<'_>) -> Ruled<Vec<Value>> {
    let body = graph(op, "body")?;
    for (index, what) in [(0, "how often it turns"), (1, "whether it turns")] {
        match op.inputs.get(index).and_then(Option::as_ref).map(|value| &value.flow) {
            None | Some(Flow::Constant) => {}
            Some(Flow::BatchSize) => return mixes(format!("the number of rows decides {what}")),
            Some(_) => return mixes(format!("rows of the batch decide {what}, and so for all of them")),
        }
    }
    let states: Vec<Value> = op.inputs.iter().skip(2).flatten().cloned().collect();
    if states.len() + 2 != op.inputs.len().max(2) {
        return unproven("one of its states has no value");
    }
    let scalar = |element: i32| Value::constant(element, Some([].into()));
    let turn = |interpreter: &mut I, states: &[Value]| {
        let inputs = [scalar(INT64), scalar(BOOL)].into_iter().chain(states.iter().cloned()).collect();
        let mut outputs = interpreter.subgraph(body, scope, inputs);
        if outputs.len() < 1 + states.len() {
            return unproven("its body has too few outputs");
        }
        match outputs.remove(0).flow {
            Flow::Constant => Ok(outputs),
            Flow::Mixed(_) | Flow::Rows(_) => mixes("rows of the batch decide when it ends, and so for all of them"),
            _ => unproven("what decides when it ends is not known"),
        }
    };
    let (states, scanned) = until_stable(interpreter, states, turn)?;
    let number = |index: usize| op.inputs.get(index).and_then(Option::as_ref).and_then(Value::scalar);
    let is_asked = number(1).is_some_and(Extent::is_one) || op.inputs.get(1).is_none_or(Option::is_none);
    let turns_once = is_asked && number(0).is_some_and(|turns| interpreter.symbols().is_positive(turns));
    let turns = interpreter.symbols().extent();
    let scanned = scanned.into_iter().map(|value| stacked(value, 0, turns_once.then_some(&turns)));
    Ok(states.into_iter().chain(scanned).collect())
}

/// `Scan`: turns along an axis that does not hold the rows.
pub(super) fn scan<I: Subgraphs>(interpreter: &mut I, op: &Op<'_>, scope: &Scope<'_>) -> Ruled<Vec<Value>> {
    if op.opset < 9 {
        return unproven("Scan is followed from operator set 9 on");
    }
    let body = graph(op, "body")?;
    let attribute = |name: &str| op.node.attributes.iter().find(|attribute| attribute.name == name);
    let axis_of =
        |name: &str, index: usize| attribute(name).and_then(|axes| axes.integers.get(index)).copied().unwrap_or(0);
    let count = attribute("num_scan_inputs").map_or(0, |count| usize::try_from(count.integer).unwrap_or(0));
    let inputs: Vec<Value> = op.inputs.iter().flatten().cloned().collect();
    let Some(states) = inputs.len().checked_sub(count) else { return unproven("it has too few inputs") };
    let mut slices = Vec::with_capacity(count);
    let mut turns_once = true;
    for (index, value) in inputs[states..].iter().enumerate() {
        let Some(shape) = &value.shape else { return unproven("the rank of what it turns over is not known") };
        let axis = axis_of("scan_input_axes", index);
        let axis = usize::try_from(if axis < 0 { axis + shape.len() as i64 } else { axis }).unwrap_or(usize::MAX);
        turns_once &= shape.get(axis).is_some_and(|extent| interpreter.symbols().is_positive(extent));
        let flow = match &value.flow {
            Flow::Rows(rows) if rows.axis == axis => {
                let name = &op.node.inputs[states + index];
                let why = format!("it turns over axis {axis} of '{name}', which holds the rows");
                // Only a state carries something from one turn to the next.
                return if states == 0 { unproven(why) } else { mixes(why) };
            }
            Flow::Rows(rows) => Flow::Rows(rows.at(rows.axis - usize::from(axis < rows.axis))),
            Flow::Constant => Flow::Constant,
            _ => return unproven("it turns over the number of rows or their positions"),
        };
        let extents = shape.iter().enumerate().filter(|(own, _)| *own != axis).map(|(_, extent)| extent.clone());
        slices.push(Value::of(flow, Some(extents.collect()), value.element));
    }
    let turn = |interpreter: &mut I, states: &[Value]| {
        let outputs = interpreter.subgraph(body, scope, states.iter().chain(&slices).cloned().collect());
        if outputs.len() < states.len() { unproven("its body has too few outputs") } else { Ok(outputs) }
    };
    let (states, scanned) = until_stable(interpreter, inputs[..states].to_vec(), turn)?;
    let turns = interpreter.symbols().extent();
    let axis = |index: usize| axis_of("scan_output_axes", index);
    let turns = turns_once.then_some(&turns);
    let scanned = scanned.into_iter().enumerate().map(|(index, value)| stacked(value, axis(index), turns));
    Ok(states.into_iter().chain(scanned).collect())
}

/// Interprets a body until its states stay as they are; gives those, and the other outputs.
fn until_stable<I: Subgraphs>(
    interpreter: &mut I,
    states: Vec<Value>,
    mut turn: impl FnMut(&mut I, &[Value]) -> Ruled<Vec<Value>>,
) -> Ruled<(Vec<Value>, Vec<Value>)> {
    // An element that is known now is another after a turn.
    let mut states: Vec<Value> = states.iter().map(Value::computed).collect();
    let mut open: Vec<Vec<bool>> = states.iter().map(|state| vec![false; state.rank().unwrap_or(0)]).collect();
    for _ in 0..MAX_ROUNDS {
        let mut outputs = turn(interpreter, &states)?;
        let others = outputs.split_off(states.len());
        let mut is_stable = true;
        for ((state, output), open) in states.iter_mut().zip(outputs).zip(&mut open) {
            is_stable &= !widen(state, output, open, interpreter.symbols());
        }
        if is_stable {
            // After the last turn an extent that changes is another than before it.
            for (state, open) in states.iter_mut().zip(&open) {
                let Some(shape) = &state.shape else { continue };
                let pairs = shape.iter().zip(open);
                let extents =
                    pairs.map(|(extent, open)| if *open { interpreter.symbols().extent() } else { extent.clone() });
                state.shape = Some(extents.collect());
            }
            return Ok((states, others));
        }
    }
    unproven("its states do not settle")
}

/// Makes a state hold for a turn more. An extent that changes becomes an unknown one, which it stays. True where it changed.
fn widen(state: &mut Value, output: Value, open: &mut [bool], symbols: &mut Symbols) -> bool {
    if matches!(state.flow, Flow::Mixed(_) | Flow::Unproven(_)) {
        return false;
    }
    let of_turn = match (&output.shape, &state.shape) {
        (Some(after), Some(before)) if after.len() == before.len() => {
            let own = output.as_rows().map(|rows| rows.axis);
            let extent = |axis: usize| if open[axis] && own != Some(axis) { &before[axis] } else { &after[axis] };
            Some((0..before.len()).map(|axis| extent(axis).clone()).collect())
        }
        (shape, _) => shape.clone(),
    };
    let output = Value { shape: of_turn, ..output.computed() };
    let joined = either(state.clone(), output, symbols);
    let mut has_changed =
        !matches!((&joined.flow, &state.flow), (Flow::Constant, Flow::Constant) | (Flow::Rows(_), Flow::Rows(_)));
    match (&joined.shape, &state.shape) {
        (Some(after), Some(before)) => {
            for axis in 0..before.len() {
                if after[axis] != before[axis] {
                    open[axis] = true;
                    has_changed = true;
                }
            }
        }
        (None, None) => {}
        _ => has_changed = true,
    }
    *state = joined.computed();
    has_changed
}

/// Outputs of the turns of a loop, along a new axis. Without any turn the value has another shape, maybe another rank.
fn stacked(value: Value, axis: i64, turns: Option<&Extent>) -> Value {
    let (Some(shape), Some(turns)) = (&value.shape, turns) else {
        return match value.flow {
            Flow::Rows(_) => unproven_value("Scan", "the shape of what its turns give is not known".into()),
            Flow::Constant | Flow::Mixed(_) | Flow::Unproven(_) => Value::of(value.flow, None, value.element),
            _ => unproven_value("Scan", "what its turns give of the number of rows is not followed".into()),
        };
    };
    let rank = shape.len() as i64 + 1;
    let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).unwrap_or(0).min(shape.len());
    let mut extents = shape.to_vec();
    extents.insert(axis, turns.clone());
    let flow = match &value.flow {
        Flow::Rows(rows) => Flow::Rows(Rows { axis: rows.axis + usize::from(axis <= rows.axis), ..rows.clone() }),
        Flow::Constant => Flow::Constant,
        Flow::Mixed(_) | Flow::Unproven(_) => return Value::of(value.flow, None, value.element),
        _ => return unproven_value("Scan", "what its turns give of the number of rows is not followed".into()),
    };
    Value::of(flow, Some(extents.into()), value.element)
}
