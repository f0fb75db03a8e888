//! Abstract values of tensors: what of a batch decides them.

use std::rc::Rc;

use super::{
    extent::{BATCH, Extent},
    symbols::Symbols,
};

/// A tensor of the graph, as far as the proof knows it.
#[derive(Debug, Clone)]
pub(super) struct Value {
    /// Influence of the batch on its elements.
    pub flow: Flow,
    /// Its extents; `None` where its rank is not known.
    pub shape: Option<Rc<[Extent]>>,
    /// Its elements, row-major, where they are few and known; never for rows.
    pub data: Option<Rc<[Extent]>>,
    /// A bound that all elements are below; they are whole numbers from 0 on. `None` where that is not known.
    pub below: Option<Extent>,
    /// `TensorProto.DataType`; 0 where it is not known.
    pub element: i32,
}

/// Influence of a batch on a tensor's elements.
#[derive(Debug, Clone)]
pub(super) enum Flow {
    /// Neither the rows nor their number.
    Constant,
    /// The number of rows in the batch, and nothing else of it. The shape does not depend on it.
    BatchSize,
    /// Each row of the batch decides its own part of the tensor.
    Rows(Rows),
    /// Elements count the rows: entry `i` along `axis`, whose extent is the number of rows, is `i * stride`, or with an own part
    /// of the row more, which is below the stride.
    Positions { axis: usize, stride: Extent, has_own_part: bool },
    /// Tuples along the last axis: the first element is the position of the row along `axis`, the others are that row's own.
    RowTuples { axis: usize },
    /// Each row decides its own part, and the longest row how far the others are padded, with an element of that text.
    Padded(Rows, Rc<[u8]>),
    /// A row may decide another row's part.
    Mixed(Rc<Cause>),
    /// Not known.
    Unproven(Rc<Cause>),
}

/// The parts of the rows of a batch in a tensor: the extent of `axis` is `outer * batch * inner`, and its entry
/// `(o * batch + b) * inner + i` belongs to row `b`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rows {
    pub axis: usize,
    pub outer: Extent,
    pub inner: Extent,
}

/// The node that lost track of the rows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cause {
    /// Its name, or its operator and its first output.
    pub node: String,
    /// The reason, which names the tensor.
    pub why: String,
}

impl Rows {
    /// One entry for each row along an axis.
    pub(super) fn along(axis: usize) -> Self {
        Rows { axis, outer: Extent::ONE, inner: Extent::ONE }
    }

    pub(super) fn at(&self, axis: usize) -> Self {
        Rows { axis, ..self.clone() }
    }

    pub(super) fn has_factors_of(&self, other: &Rows) -> bool {
        self.outer == other.outer && self.inner == other.inner
    }

    /// The extent of the axis.
    pub(super) fn extent(&self, symbols: &mut Symbols) -> Extent {
        symbols.product([&self.outer, &Extent::symbol(BATCH), &self.inner])
    }
}

impl Value {
    /// A tensor that is the same in every run.
    pub(super) fn constant(element: i32, shape: Option<Rc<[Extent]>>) -> Self {
        Value { flow: Flow::Constant, shape, data: None, below: None, element }
    }

    pub(super) fn rows(rows: Rows, element: i32, shape: Option<Rc<[Extent]>>) -> Self {
        Value { flow: Flow::Rows(rows), shape, data: None, below: None, element }
    }

    /// A tensor of known elements, which the number of rows may decide.
    pub(super) fn known(element: i32, shape: Rc<[Extent]>, data: Rc<[Extent]>, symbols: &Symbols) -> Self {
        let of_batch = data.iter().any(|element| symbols.is_of_batch(element));
        let flow = if of_batch { Flow::BatchSize } else { Flow::Constant };
        Value { flow, shape: Some(shape), data: Some(data), below: None, element }
    }

    /// A tensor of that flow and shape, of whose elements nothing is known.
    pub(super) fn of(flow: Flow, shape: Option<Rc<[Extent]>>, element: i32) -> Self {
        Value { flow, shape, data: None, below: None, element }
    }

    /// The same place of rows, with other elements.
    pub(super) fn computed(&self) -> Self {
        Value { data: None, below: None, ..self.clone() }
    }

    pub(super) fn as_rows(&self) -> Option<&Rows> {
        match &self.flow {
            Flow::Rows(rows) => Some(rows),
            _ => None,
        }
    }

    pub(super) fn is_constant(&self) -> bool {
        matches!(self.flow, Flow::Constant)
    }

    /// True if neither rows nor their positions take part: its elements are constant or follow from the number of rows.
    pub(super) fn is_without_rows(&self) -> bool {
        matches!(self.flow, Flow::Constant | Flow::BatchSize)
    }

    pub(super) fn rank(&self) -> Option<usize> {
        self.shape.as_ref().map(|shape| shape.len())
    }

    /// Its only element, where that is known.
    pub(super) fn scalar(&self) -> Option<&Extent> {
        match self.data.as_deref() {
            Some([element]) => Some(element),
            _ => None,
        }
    }

    /// Its elements as numbers, where all are.
    pub(super) fn numbers(&self) -> Option<Vec<i64>> {
        self.data.as_ref()?.iter().map(Extent::number).collect()
    }
}

/// A value of which nothing is known.
pub(super) fn unproven(node: &str, why: String) -> Value {
    let cause = Rc::new(Cause { node: node.to_owned(), why });
    Value::of(Flow::Unproven(cause), None, 0)
}
