//! Compute threads without those of devices.

use std::time::Instant;

use super::{compute_threads::ComputeThreads, schedulable::Schedulable, sync::Arc, watchdog::Watchdog};

/// A handle to the threads.
#[derive(Clone)]
pub(in crate::batcher::wakeups) struct Compute(ComputeThreads);

impl Compute {
    pub(in crate::batcher::wakeups) fn start(threads: usize) -> Self {
        Compute(ComputeThreads::start("compute", threads, threads, Watchdog).unwrap())
    }

    pub(in crate::batcher::wakeups) fn stop(&self) {
        self.0.stop();
    }

    pub(super) fn watchdog(&self) -> &Watchdog {
        self.0.watchdog()
    }

    pub(super) fn schedule(&self, batcher: Arc<dyn Schedulable>) {
        self.0.schedule(batcher);
    }

    pub(super) fn schedule_at(&self, when: Instant, batcher: Arc<dyn Schedulable>) {
        self.0.schedule_at(when, batcher);
    }
}
