//! The compute slots that a run holds, and its thread.

use super::{
    slot_queue::RunId,
    sync::{Arc, Weak},
};

/// Threads that run models in compute slots.
pub(super) trait SlotOwner: Send + Sync {
    /// Gives the slots of a run back, and has another thread take the place of this one, whose run does not end. False where
    /// there is none.
    fn abandon(self: Arc<Self>, run: RunId, thread: usize) -> bool;
}

/// The slots that a run holds, and its thread.
#[derive(Clone)]
pub(super) struct SlotHold {
    pub owner: Weak<dyn SlotOwner>,
    pub run: RunId,
    pub thread: usize,
}

impl SlotHold {
    /// Gives the slots back, and has another thread take the place of the run's own. False where there is none.
    pub(super) fn abandon(self) -> bool {
        self.owner.upgrade().is_some_and(|owner| owner.abandon(self.run, self.thread))
    }
}
