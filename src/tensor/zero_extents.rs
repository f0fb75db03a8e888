//! Axes of inputs that may be empty.

use super::{Dimension, ModelInputs, Signature};
use crate::error::{Error, Result};

/// Which axes of a model's inputs may have the extent 0.
///
/// Some kernels of ONNX Runtime end the process where an extent is 0. So an empty axis is refused unless a run at load has shown
/// that the model takes it, or the model declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZeroExtents {
    /// The axes that are safe, by input. One entry for an input of undeclared rank, which stands for all of its axes.
    safe: Vec<Vec<bool>>,
    /// Why the others are not, for people.
    why: String,
}

impl ZeroExtents {
    /// None is safe, for this reason.
    pub fn refused(signature: &Signature, why: impl Into<String>) -> Self {
        let axes = |shape: &Option<Vec<Dimension>>| vec![false; shape.as_ref().map_or(1, Vec::len)];
        ZeroExtents { safe: signature.inputs.iter().map(|spec| axes(&spec.shape)).collect(), why: why.into() }
    }

    /// An axis of an input is safe. Of an input of undeclared rank that is axis 0.
    pub fn allow(&mut self, input: usize, axis: usize) {
        if let Some(safe) = self.safe.get_mut(input).and_then(|axes| axes.get_mut(axis)) {
            *safe = true;
        }
    }

    /// Why axes that are not safe are refused, for people.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Changes that.
    pub fn because(&mut self, why: impl Into<String>) {
        self.why = why.into();
    }

    /// Whether the request may run as far as empty axes go.
    ///
    /// # Errors
    /// Names the input and the axis.
    #[inline]
    pub fn check(&self, model: &str, signature: &Signature, inputs: &ModelInputs) -> Result<()> {
        let has_none = |tensor: &super::Tensor| !tensor.shape().extents().contains(&0);
        if inputs.required.iter().all(has_none) && inputs.optional.iter().all(|(_, tensor)| has_none(tensor)) {
            return Ok(());
        }
        self.check_empty(model, signature, inputs)
    }

    #[cold]
    fn check_empty(&self, model: &str, signature: &Signature, inputs: &ModelInputs) -> Result<()> {
        let required = inputs.required.iter().enumerate().map(|(index, tensor)| (Some(index), index, tensor));
        let optional = inputs.optional.iter().map(|(index, tensor)| (None, *index, tensor));
        for (safe, index, tensor) in required.chain(optional) {
            let spec = if safe.is_some() { &signature.inputs[index] } else { &signature.optional_inputs[index] };
            let empty = tensor.shape().extents().iter().enumerate().filter(|(_, extent)| **extent == 0);
            for (axis, _) in empty {
                let declared = spec.shape.as_ref().and_then(|shape| shape.get(axis));
                let is_declared = matches!(declared, Some(Dimension::Fixed(_)));
                let entry = if spec.shape.is_some() { axis } else { 0 };
                let is_safe = safe.and_then(|input| self.safe.get(input)?.get(entry)).copied().unwrap_or(false);
                if !is_declared && !is_safe {
                    return Err(Error::invalid(format!(
                        "input '{}' of model '{model}': axis {axis} of {} is empty, and that is refused: {}",
                        spec.name,
                        tensor.shape(),
                        self.why
                    )));
                }
            }
        }
        Ok(())
    }
}
