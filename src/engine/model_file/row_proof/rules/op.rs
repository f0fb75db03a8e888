//! A node with the values of its inputs, as rules look at it, and the reasons for which rules give up.

use std::rc::Rc;

use super::super::{
    super::onnx::{AttributeProto, NodeProto},
    extent::Extent,
    value::{Flow, Rows, Value},
};

/// Elements that are known of a tensor at most: shapes are short.
pub(in crate::engine::model_file::row_proof) const MAX_ELEMENTS: usize = 64;

/// Axes of a tensor at most.
const MAX_RANK: usize = 32;

/// A node with the values of its inputs.
pub(in crate::engine::model_file::row_proof) struct Op<'a> {
    pub node: &'a NodeProto,
    /// `None` for an input that is left out.
    pub inputs: Vec<Option<Value>>,
    /// Version of the operator set that the node's domain is imported with.
    pub opset: i64,
}

/// The reason that rows are not followed through a node.
#[derive(Debug)]
pub(in crate::engine::model_file::row_proof) enum Blame {
    /// A row may decide another row's part.
    Mixes(String),
    /// The rules don't know.
    Unproven(String),
}

pub(in crate::engine::model_file::row_proof) type Ruled<T> = Result<T, Blame>;

pub(in crate::engine::model_file::row_proof) fn mixes<T>(why: impl Into<String>) -> Ruled<T> {
    Err(Blame::Mixes(why.into()))
}

pub(in crate::engine::model_file::row_proof) fn unproven<T>(why: impl Into<String>) -> Ruled<T> {
    Err(Blame::Unproven(why.into()))
}

/// The shape of a tensor.
pub(in crate::engine::model_file::row_proof) type SymbolicShape = Rc<[Extent]>;

impl Op<'_> {
    pub(super) fn input(&self, index: usize) -> Option<&Value> {
        self.inputs.get(index)?.as_ref()
    }

    pub(super) fn required(&self, index: usize) -> Ruled<&Value> {
        self.input(index).map_or_else(|| unproven(format!("it has no input {index}")), Ok)
    }

    /// The name of an input, for people.
    pub(super) fn name(&self, index: usize) -> &str {
        self.node.inputs.get(index).map_or("", String::as_str)
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.node.attributes.iter().find(|attribute| attribute.name == name)
    }

    pub(super) fn integer(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |attribute| attribute.integer)
    }

    pub(super) fn integers(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|attribute| attribute.integers.as_slice())
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.attribute(name).and_then(|attribute| std::str::from_utf8(&attribute.string).ok())
    }

    /// The shape of an input.
    pub(super) fn shape(&self, index: usize) -> Ruled<&SymbolicShape> {
        // More axes are no tensors, but work.
        let shape = self.required(index)?.shape.as_ref().filter(|shape| shape.len() <= MAX_RANK);
        shape.map_or_else(|| unproven(format!("the rank of '{}' is not known", self.name(index))), Ok)
    }

    /// An axis, counted from the end where it is negative.
    pub(super) fn axis(&self, axis: i64, rank: usize) -> Ruled<usize> {
        let counted = if axis < 0 { axis + rank as i64 } else { axis };
        match usize::try_from(counted) {
            Ok(counted) if counted < rank => Ok(counted),
            _ => unproven(format!("axis {axis} is none of {rank}")),
        }
    }

    /// Axes that an attribute says, or an input from some operator set on; `None` where neither does.
    pub(super) fn axes(&self, input: usize) -> Ruled<Option<Vec<i64>>> {
        if let Some(axes) = self.integers("axes") {
            return if axes.len() > MAX_RANK { unproven("it names too many axes") } else { Ok(Some(axes.to_vec())) };
        }
        match self.input(input) {
            None => Ok(None),
            Some(value) => self.numbers_of(value, input).map(Some),
        }
    }

    /// Elements of an input that say how the operator works.
    pub(super) fn numbers(&self, index: usize) -> Ruled<Vec<i64>> {
        self.numbers_of(self.required(index)?, index)
    }

    pub(super) fn numbers_of(&self, value: &Value, index: usize) -> Ruled<Vec<i64>> {
        self.holds_no_rows(value, index)?;
        let numbers = value.numbers();
        numbers.map_or_else(|| unproven(format!("the elements of '{}' are not known", self.name(index))), Ok)
    }

    /// Elements of a shape that an input gives.
    pub(super) fn extents(&self, index: usize) -> Ruled<Rc<[Extent]>> {
        let value = self.required(index)?;
        self.holds_no_rows(value, index)?;
        let known = value.data.clone();
        known.map_or_else(|| unproven(format!("the elements of '{}' are not known", self.name(index))), Ok)
    }

    /// An input that decides for all rows must not come from them.
    pub(super) fn holds_no_rows(&self, value: &Value, index: usize) -> Ruled<()> {
        match &value.flow {
            Flow::Constant => return Ok(()),
            Flow::BatchSize if value.data.is_some() => return Ok(()),
            Flow::BatchSize => return mixes(format!("the number of rows decides '{}'", self.name(index))),
            _ => {}
        }
        mixes(format!("'{}', which rows of the batch decide, decides for all of them", self.name(index)))
    }

    /// An input that must be the same in every run.
    pub(super) fn must_be_constant(&self, index: usize) -> Ruled<()> {
        match self.input(index) {
            None => Ok(()),
            Some(value) if value.is_constant() => Ok(()),
            Some(value) if matches!(value.flow, Flow::BatchSize) => {
                mixes(format!("the number of rows decides '{}'", self.name(index)))
            }
            Some(_) => unproven(format!("'{}' is not constant", self.name(index))),
        }
    }

    pub(super) fn must_all_be_constant(&self, indices: impl IntoIterator<Item = usize>) -> Ruled<()> {
        indices.into_iter().try_for_each(|index| self.must_be_constant(index))
    }

    /// The parts of the rows in an input that has some.
    pub(super) fn rows(&self, index: usize) -> Ruled<&Rows> {
        let value = self.required(index)?;
        match &value.flow {
            Flow::Rows(rows) => Ok(rows),
            Flow::Positions { .. } | Flow::RowTuples { .. } => {
                mixes(format!("'{}' holds the positions of rows in the batch", self.name(index)))
            }
            Flow::Padded(..) => mixes(format!("'{}' is padded to the longest row of the batch", self.name(index))),
            _ => unproven(format!("'{}' does not hold rows where other inputs do", self.name(index))),
        }
    }

    /// True if an input holds rows.
    pub(super) fn has_rows(&self, index: usize) -> bool {
        self.input(index).is_some_and(|value| value.as_rows().is_some())
    }

    /// Type of the elements of an input.
    pub(super) fn element(&self, index: usize) -> i32 {
        self.input(index).map_or(0, |value| value.element)
    }

    /// Says that the operator takes the entries of an axis together.
    pub(super) fn takes_rows_together<T>(&self, index: usize, axis: usize) -> Ruled<T> {
        let (operator, name) = (&self.node.operator, self.name(index));
        mixes(format!(
            "{operator} takes the entries along axis {axis} of '{name}' together, which are the rows of the batch"
        ))
    }
}
