//! Arithmetic with the elements of small tensors, which shapes are computed of.

use std::rc::Rc;

use super::{
    super::{
        super::onnx::{BOOL, DOUBLE, FLOAT, INT32, INT64},
        extent::Extent,
        symbols::{Made, Symbols},
        value::Value,
    },
    MAX_ELEMENTS, Op,
};

/// The output with its elements, computed from those of the inputs; `None` where they are not known or too many.
pub(super) fn compute(op: &Op<'_>, output: &Value, symbols: &mut Symbols) -> Option<Value> {
    let shape = output.shape.clone()?;
    let extents = numbers(&shape)?;
    let operands: Vec<Operand<'_>> = op.inputs.iter().flatten().map(Operand::new).collect::<Option<_>>()?;
    let count: usize = extents.iter().try_fold(1_usize, |count, extent| count.checked_mul(*extent))?;
    if count > MAX_ELEMENTS {
        return None;
    }
    let mut data = Vec::with_capacity(count);
    for index in 0..count {
        let elements: Vec<&Extent> =
            operands.iter().map(|operand| operand.at(index, &extents)).collect::<Option<_>>()?;
        data.push(element(op, &elements, output.element, symbols));
    }
    Some(Value::known(output.element, shape, data.into(), symbols))
}

/// Extents as numbers, where all are.
pub(super) fn numbers(shape: &[Extent]) -> Option<Vec<usize>> {
    shape.iter().map(|extent| usize::try_from(extent.number()?).ok()).collect()
}

struct Operand<'v> {
    data: &'v [Extent],
    extents: Vec<usize>,
}

impl<'v> Operand<'v> {
    fn new(value: &'v Value) -> Option<Self> {
        Some(Operand { data: value.data.as_deref()?, extents: numbers(value.shape.as_deref()?)? })
    }

    /// The element at a place of the output, by broadcasting.
    fn at(&self, mut index: usize, output: &[usize]) -> Option<&'v Extent> {
        let (mut position, mut stride) = (0, 1);
        for (back, extent) in output.iter().rev().enumerate() {
            let place = index.checked_rem(*extent)?;
            index /= extent;
            if let Some(own) = self.extents.len().checked_sub(back + 1).map(|axis| self.extents[axis]) {
                position += if own == 1 { 0 } else { place * stride };
                stride *= own;
            }
        }
        self.data.get(position)
    }
}

/// True if elements of a type are what they are computed to be: types of fewer bits wrap around or round.
pub(super) fn holds(element: i32, value: &Extent, symbols: &Symbols) -> bool {
    match element {
        INT64 => value.is_exact(1 << 20, 4) && value.number().is_none_or(|number| number.unsigned_abs() < 1 << 62),
        INT32 => value.is_exact(16, 2) && value.number().is_none_or(|number| i32::try_from(number).is_ok()),
        FLOAT | DOUBLE => {
            let fits = value.number().is_none_or(|number| number.unsigned_abs() < 1 << 24);
            fits && symbols.is_whole(value) && value.is_exact(16, 1)
        }
        BOOL => true,
        _ => false,
    }
}

fn element(op: &Op<'_>, operands: &[&Extent], output: i32, symbols: &mut Symbols) -> Extent {
    let of_batch = operands.iter().any(|operand| symbols.is_of_batch(operand));
    let first = if op.node.operator == "Where" { op.element(1) } else { op.element(0) };
    symbols.work(operands.len());
    // Of a fraction, NaN or infinity nothing is known.
    let are_known =
        operands.iter().skip(usize::from(op.node.operator == "Where")).all(|operand| holds(first, operand, symbols));
    let computed = if are_known { computed(op, operands, symbols) } else { None };
    computed.filter(|computed| holds(output, computed, symbols)).unwrap_or_else(|| symbols.element(of_batch))
}

fn computed(op: &Op<'_>, operands: &[&Extent], symbols: &mut Symbols) -> Option<Extent> {
    let is_whole = matches!(op.element(0), INT32 | INT64);
    match (op.node.operator.as_str(), operands) {
        ("Add" | "Sum", [first, second]) => Some(symbols.add(first, second)),
        ("Sub", [first, second]) => Some(symbols.sub(first, second)),
        ("Mul", [first, second]) => Some(symbols.mul(first, second)),
        ("Div", [first, second]) => divide(first, second, is_whole, symbols),
        ("Mod", [first, second]) if op.integer("fmod", 0) == 0 => modulo(first, second),
        ("Neg", [only]) => Some(symbols.mul(only, &Extent::Number(-1))),
        ("Abs" | "Relu", [only]) if symbols.is_nonnegative(only) => Some((*only).clone()),
        ("Floor" | "Ceil" | "Round", [only]) => symbols.is_whole(only).then(|| (*only).clone()),
        ("Min", [first, second]) => Some(chosen(first, second, Made::Min, symbols)),
        ("Max", [first, second]) => Some(chosen(first, second, Made::Max, symbols)),
        ("Equal", [first, second]) => truth(symbols.are_equal(first, second)),
        ("Less", [first, second]) => truth(symbols.is_less(first, second)),
        ("Greater", [first, second]) => truth(symbols.is_less(second, first)),
        ("LessOrEqual", [first, second]) => truth(symbols.is_less(second, first).map(|less| !less)),
        ("GreaterOrEqual", [first, second]) => truth(symbols.is_less(first, second).map(|less| !less)),
        ("Not", [only]) => truth(only.number().map(|number| number == 0)),
        ("And", [first, second]) => both(first, second, |first, second| first && second),
        ("Or", [first, second]) => both(first, second, |first, second| first || second),
        ("Where", [condition, first, second]) => match condition.number() {
            Some(0) => Some((*second).clone()),
            Some(_) => Some((*first).clone()),
            None if first == second => Some((*first).clone()),
            None => None,
        },
        _ => None,
    }
}

fn divide(first: &Extent, second: &Extent, is_whole: bool, symbols: &mut Symbols) -> Option<Extent> {
    let exact = first.div_exact(second);
    // Whole numbers are rounded towards zero, which is down for these.
    let is_down = || second.number().is_some_and(|number| number > 0);
    match exact {
        None if is_whole && symbols.is_nonnegative(first) && is_down() => Some(symbols.floor_div(first, second)),
        exact => exact,
    }
}

fn modulo(first: &Extent, second: &Extent) -> Option<Extent> {
    match (first, second) {
        (Extent::Number(first), Extent::Number(second @ 1..)) => Some(Extent::Number(first.rem_euclid(*second))),
        _ => first.div_exact(second).map(|_| Extent::ZERO),
    }
}

fn chosen(first: &Extent, second: &Extent, made: Made, symbols: &mut Symbols) -> Extent {
    let first_is_less = symbols.is_less(first, second);
    match (first == second, first_is_less, made) {
        (true, ..) | (_, Some(true), Made::Min) | (_, Some(false), Made::Max) => first.clone(),
        (_, Some(true), _) | (_, Some(false), Made::Min) => second.clone(),
        _ => symbols.made(made, first, second),
    }
}

fn truth(known: Option<bool>) -> Option<Extent> {
    known.map(|known| Extent::Number(known.into()))
}

fn both(first: &Extent, second: &Extent, of: impl Fn(bool, bool) -> bool) -> Option<Extent> {
    Some(Extent::Number(of(first.number()? != 0, second.number()? != 0).into()))
}

/// Elements as another type has them.
pub(super) fn cast(data: &Rc<[Extent]>, to: i32, symbols: &mut Symbols) -> Rc<[Extent]> {
    let mut cast = |element: &Extent| {
        let kept = match (to, element.number()) {
            (BOOL, number) => number.map(|number| Extent::Number((number != 0).into())),
            // A fraction is cut off.
            _ => (symbols.is_whole(element) && holds(to, element, symbols)).then(|| element.clone()),
        };
        kept.unwrap_or_else(|| {
            let of_batch = symbols.is_of_batch(element);
            symbols.element(of_batch)
        })
    };
    data.iter().map(&mut cast).collect()
}
