//! Registers the runs of the present thread with the watchdog.

use std::sync::{Arc, Weak};

use super::{
    batch::SharedBatch,
    watchdog::Watchdog,
    watched_batcher::WatchedBatcher,
    watched_thread::{is_registered_inline, is_watched, register_batch, register_inline, unregister_batch},
};

/// Registers the batcher whose batches the present thread runs inline. Costs a comparison where it did so last time.
pub(super) fn runs_inline(batcher: &Arc<Weak<dyn WatchedBatcher>>, watchdog: &Watchdog) {
    if !is_registered_inline(batcher) {
        watch_from_now_on(watchdog);
        register_inline(batcher);
    }
}

/// Registers the jobs of a batch that the present thread runs.
pub(super) fn runs_batch(
    batcher: Arc<dyn WatchedBatcher>,
    batch: &Arc<SharedBatch>,
    members: &[usize],
    watchdog: &Watchdog,
) {
    watch_from_now_on(watchdog);
    register_batch(batcher, batch, members);
}

/// Registers the end of the present thread's run of a batch. False if it was abandoned: its jobs have been answered.
pub(super) fn batch_ended() -> bool {
    unregister_batch()
}

/// Has the present thread be watched from its first run on: before that there may be no library that has run options.
fn watch_from_now_on(watchdog: &Watchdog) {
    if !is_watched() {
        watchdog.watch_this_thread();
    }
}
