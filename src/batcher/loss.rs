//! The reason for which a version broke while it served, and the registry's callback.

use std::sync::OnceLock;

use crate::error::Lost;

/// The reason for which a batcher is lost, if it is, and the function to call then.
#[derive(Default)]
pub(super) struct LossSignal {
    lost: OnceLock<Lost>,
    callback: OnceLock<Callback>,
}

type Callback = Box<dyn Fn(&Lost) + Send + Sync>;

impl LossSignal {
    /// Sets the reason. False if there is one already.
    pub(super) fn set(&self, lost: Lost) -> bool {
        self.lost.set(lost).is_ok()
    }

    /// The reason, if the batcher is lost.
    pub(super) fn get(&self) -> Option<&Lost> {
        self.lost.get()
    }

    /// Sets the callback, and calls it if the batcher is lost already. Only the first one counts.
    pub(super) fn on_set(&self, callback: impl Fn(&Lost) + Send + Sync + 'static) {
        if self.callback.set(Box::new(callback)).is_ok() {
            self.call();
        }
    }

    /// Calls the callback, if the batcher is lost and there is one.
    pub(super) fn call(&self) {
        if let (Some(lost), Some(callback)) = (self.lost.get(), self.callback.get()) {
            callback(lost);
        }
    }
}
