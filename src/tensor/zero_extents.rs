//! Axes of inputs that may be empty.

use std::sync::Arc;

use super::{Dimension, ModelInputs, Signature};
use crate::error::{Error, Result};

/// Axes of a model's inputs that may have the extent 0.
///
/// Some kernels of ONNX Runtime end the process where an extent is 0. So an empty axis is refused unless a run at load has shown
/// that the model takes it, or the model declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZeroExtents {
    /// By input and axis: why it may not be empty, for people; `None` where it may. One entry for an input of undeclared rank
    /// stands for all of its axes.
    refusals: Vec<Vec<Option<Arc<str>>>>,
    /// Why optional inputs may not be, for people.
    otherwise: Arc<str>,
}

impl ZeroExtents {
    /// No axis may be empty, for this reason.
    pub fn refused(signature: &Signature, why: impl Into<Arc<str>>) -> Self {
        let why = why.into();
        let axes = |shape: &Option<Vec<Dimension>>| vec![Some(why.clone()); shape.as_ref().map_or(1, Vec::len)];
        ZeroExtents { refusals: signature.inputs.iter().map(|spec| axes(&spec.shape)).collect(), otherwise: why }
    }

    /// Sets why an axis of an input may not be empty; `None` where it may. Of an input of undeclared rank that is axis 0.
    pub fn set(&mut self, input: usize, axis: usize, refusal: Option<Arc<str>>) {
        if let Some(entry) = self.refusals.get_mut(input).and_then(|axes| axes.get_mut(axis)) {
            *entry = refusal;
        }
    }

    /// Checks that the request may run as far as empty axes go.
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
        let given = inputs.required.iter().enumerate().map(|(index, tensor)| (Some(index), index, tensor));
        let optional = inputs.optional.iter().map(|(index, tensor)| (None, *index, tensor));
        for (required, index, tensor) in given.chain(optional) {
            let spec = if required.is_some() { &signature.inputs[index] } else { &signature.optional_inputs[index] };
            let empty = tensor.shape().extents().iter().enumerate().filter(|(_, extent)| **extent == 0);
            for (axis, _) in empty {
                let declared = spec.shape.as_ref().and_then(|shape| shape.get(axis));
                let is_declared = matches!(declared, Some(Dimension::Fixed(_)));
                let entry = if spec.shape.is_some() { axis } else { 0 };
                let refusal = match required.and_then(|input| self.refusals.get(input)?.get(entry)) {
                    Some(refusal) => refusal.as_ref(),
                    None => Some(&self.otherwise),
                };
                if let Some(why) = refusal.filter(|_| !is_declared) {
                    return Err(Error::invalid(format!(
                        "input '{}' of model '{model}': axis {axis} of {} is empty, and that is refused: {why}",
                        spec.name,
                        tensor.shape(),
                    )));
                }
            }
        }
        Ok(())
    }
}
