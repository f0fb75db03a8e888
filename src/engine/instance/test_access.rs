//! State of an instance that only tests ask for.

use super::Instance;

impl Instance {
    /// True if memory is ready for any output before a run on a device.
    pub(in crate::engine) fn predicts_outputs(&self) -> bool {
        self.device.as_ref().is_some_and(|device| {
            let mut outputs = device.signature.outputs.iter().enumerate();
            outputs.any(|(index, spec)| device.predicted.shape(index, spec, 1).is_some())
        })
    }

    /// True if a binding is cached.
    pub(in crate::engine) fn has_cached_binding(&self) -> bool {
        self.cached.as_ref().is_some_and(|cached| cached.bound.is_some())
    }
}
