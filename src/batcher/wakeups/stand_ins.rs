//! Stand-ins for the watchdog, whose clock is the system's: tests abandon runs themselves.

pub(super) mod watchdog {
    /// A watchdog that never acts by itself.
    #[derive(Clone)]
    pub(in crate::batcher) struct Watchdog;

    impl Watchdog {
        pub(in crate::batcher) fn forget_this_thread(&self) {}
    }
}

pub(super) mod watched_thread {
    use std::cell::RefCell;

    use super::super::shuttled::sync::thread_local;
    use crate::batcher::slot_hold::SlotHold;

    thread_local! {
        static HOLD: RefCell<Option<SlotHold>> = RefCell::new(None);
    }

    /// Registers the slots that the present thread holds from now on.
    pub(in crate::batcher) fn hold_slots(hold: SlotHold) {
        HOLD.with(|own| own.replace(Some(hold)));
    }

    /// The slots that the present thread holds.
    pub(in crate::batcher) fn held_slots() -> Option<SlotHold> {
        HOLD.with(|own| own.borrow().clone())
    }
}

pub(super) mod watched_runs {
    use std::{cell::RefCell, time::Duration};

    use super::{
        super::shuttled::sync::{
            atomic::{AtomicBool, Ordering::SeqCst},
            thread_local,
        },
        watchdog::Watchdog,
        watched_thread::held_slots,
    };
    use crate::batcher::{
        batch::SharedBatch,
        slot_hold::SlotHold,
        sync::{Arc, Weak},
        watched_batcher::WatchedBatcher,
    };

    thread_local! {
        static RUN: RefCell<Option<Arc<WatchedRun>>> = RefCell::new(None);
    }

    /// A run of a batch that a test may abandon as the watchdog does.
    pub(in crate::batcher) struct WatchedRun {
        batcher: Arc<dyn WatchedBatcher>,
        batch: Arc<SharedBatch>,
        hold: Option<SlotHold>,
        is_over: AtomicBool,
    }

    impl WatchedRun {
        /// The run of the present thread.
        pub(in crate::batcher) fn here() -> Arc<Self> {
            RUN.with(|own| own.borrow().clone()).unwrap()
        }

        /// Abandons the run, unless it has ended.
        pub(in crate::batcher) fn abandon(&self) {
            if !self.is_over.swap(true, SeqCst) {
                let is_replaced = self.hold.clone().is_some_and(SlotHold::abandon);
                self.batcher.abandon(Some(&self.batch), Duration::ZERO, is_replaced);
            }
        }
    }

    pub(in crate::batcher) fn runs_inline(_: &Arc<Weak<dyn WatchedBatcher>>, _: &Watchdog) {}

    pub(in crate::batcher) fn runs_batch(
        batcher: Arc<dyn WatchedBatcher>,
        batch: &Arc<SharedBatch>,
        _: &[usize],
        _: &Watchdog,
    ) {
        let run = WatchedRun { batcher, batch: batch.clone(), hold: held_slots(), is_over: AtomicBool::new(false) };
        RUN.with(|own| own.replace(Some(Arc::new(run))));
    }

    pub(in crate::batcher) fn batch_ended() -> bool {
        let run = RUN.with(RefCell::take).unwrap();
        !run.is_over.swap(true, SeqCst)
    }
}
