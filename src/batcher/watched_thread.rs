//! A thread that runs models, as the watchdog sees it.

use std::{
    cell::{Cell, RefCell},
    ptr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use super::{
    batch::{Members, SharedBatch},
    slot_hold::SlotHold,
    watched_batcher::WatchedBatcher,
    watched_task::{LoadWatch, Task},
};
use crate::engine::RunControl;

/// A thread that runs models.
pub(super) struct WatchedThread {
    pub control: Arc<RunControl>,
    run: Mutex<WatchedRun>,
}

/// The present run of a thread, as far as it is registered.
#[derive(Default)]
struct WatchedRun {
    task: Task,
    /// The slots of the run, and its thread, where another can take the thread's place.
    hold: Option<SlotHold>,
    sighted: Option<SightedRun>,
}

/// A run that the watchdog has seen.
struct SightedRun {
    number: u64,
    since: Instant,
    stopped_at: Option<Instant>,
    is_abandoned: bool,
}

/// State of a thread at a look of the watchdog.
pub(super) enum ThreadState {
    /// It runs nothing.
    Idle,
    /// It runs something.
    Busy,
    /// It runs something that does not end though it is stopped.
    Abandoned(AbandonedRun),
    /// Its abandoned run has ended after all.
    Returned,
}

/// A run that is not waited for any more.
pub(super) struct AbandonedRun {
    batcher: Option<Arc<dyn WatchedBatcher>>,
    batch: Option<Arc<SharedBatch>>,
    hold: Option<SlotHold>,
    took: Duration,
}

thread_local! {
    static WATCHED: RefCell<Option<Arc<WatchedThread>>> = const { RefCell::new(None) };
    /// The slots that this thread holds while it drives a batcher.
    static HOLD: RefCell<Option<SlotHold>> = const { RefCell::new(None) };
    /// The batcher whose batches this thread runs inline, for comparison only.
    static INLINE: Cell<*const Weak<dyn WatchedBatcher>> = const { Cell::new(ptr::null()) };
}

impl WatchedThread {
    pub(super) fn new(control: RunControl) -> Arc<Self> {
        Arc::new(WatchedThread { control: control.into(), run: Mutex::default() })
    }

    /// Has this describe the present thread; returns what did before.
    pub(super) fn enter(watched: Option<Arc<WatchedThread>>) -> Option<Arc<WatchedThread>> {
        RunControl::enter(watched.as_ref().map(|watched| watched.control.clone()));
        INLINE.set(ptr::null());
        WATCHED.replace(watched)
    }

    /// Registers the load whose runs the thread makes.
    pub(super) fn loads(&self, max_run_time: Option<Duration>, load: Arc<LoadWatch>) {
        load.begin(&self.control);
        self.run().task = Task::Load(max_run_time, load);
    }

    /// Checks the thread's run: stops it where it should end, and abandons it where it does not.
    pub(super) fn check(&self, now: Instant) -> ThreadState {
        let mut run = self.run();
        let WatchedRun { task, hold, sighted } = &mut *run;
        let running = self.control.running();
        let ended = sighted.take_if(|sighted| Some(sighted.number) != running);
        if ended.is_some_and(|ended| ended.is_abandoned) {
            return ThreadState::Returned;
        }
        let Some(number) = running else { return ThreadState::Idle };
        let first = SightedRun { number, since: now, stopped_at: None, is_abandoned: false };
        let sighted = sighted.get_or_insert(first);
        let took = now.saturating_duration_since(sighted.since);
        let Some(stopped_at) = sighted.stopped_at else {
            if let Some(reason) = task.stop_reason(now, took)
                && self.control.stop(number, reason)
            {
                sighted.stopped_at = Some(now);
                task.report_stop(reason, took);
            }
            return ThreadState::Busy;
        };
        if !sighted.is_abandoned && task.is_overdue(took, now.saturating_duration_since(stopped_at)) {
            sighted.is_abandoned = true;
            let abandoned = match task {
                // The thread finds by this that its run was abandoned.
                Task::Batch(..) => std::mem::take(task),
                _ => Task::None,
            };
            let (batcher, batch) = match (abandoned, &*task) {
                (Task::Batch(batcher, batch, _), _) => (Some(batcher), Some(batch)),
                (_, Task::Inline(batcher)) => (batcher.upgrade(), None),
                (_, Task::Load(_, load)) => {
                    load.stick();
                    (None, None)
                }
                _ => (None, None),
            };
            return ThreadState::Abandoned(AbandonedRun { batcher, batch, hold: hold.take(), took });
        }
        ThreadState::Busy
    }

    /// True if the thread runs something.
    pub(super) fn is_running(&self) -> bool {
        self.control.running().is_some()
    }

    fn run(&self) -> MutexGuard<'_, WatchedRun> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True if the watchdog knows the present thread.
pub(super) fn is_watched() -> bool {
    WATCHED.with_borrow(Option::is_some)
}

/// Registers the batcher whose batches the present thread runs inline, unless it is registered as `is_registered_inline`
/// says.
pub(super) fn register_inline(batcher: &Arc<Weak<dyn WatchedBatcher>>) {
    with_watched(|watched| {
        // It is kept there, so no other can come to lie at its address.
        watched.run().task = Task::Inline(batcher.clone());
        INLINE.set(Arc::as_ptr(batcher));
    });
}

/// True if the present thread runs batches of this batcher inline, and is registered so. Costs a comparison.
pub(super) fn is_registered_inline(batcher: &Arc<Weak<dyn WatchedBatcher>>) -> bool {
    ptr::eq(INLINE.get(), Arc::as_ptr(batcher))
}

/// Registers the slots that the present thread holds from now on.
pub(super) fn hold_slots(hold: SlotHold) {
    HOLD.set(Some(hold));
}

/// Registers the jobs of a batch that the present thread runs.
pub(super) fn register_batch(batcher: Arc<dyn WatchedBatcher>, batch: &Arc<SharedBatch>, members: &[usize]) {
    with_watched(|watched| {
        let mut run = watched.run();
        run.task = Task::Batch(batcher, batch.clone(), Members::from_slice(members));
        run.hold = HOLD.with_borrow(Clone::clone);
    });
}

/// Registers the end of the present thread's run of a batch. False if it was abandoned: its jobs have been answered.
pub(super) fn unregister_batch() -> bool {
    WATCHED.with_borrow(|watched| {
        let Some(watched) = watched else { return true };
        let mut run = watched.run();
        run.hold = None;
        matches!(std::mem::take(&mut run.task), Task::Batch(..))
    })
}

fn with_watched(work: impl FnOnce(&WatchedThread)) {
    WATCHED.with_borrow(|watched| watched.as_deref().map(work));
}

impl AbandonedRun {
    /// Answers the clients of the run, has another thread take the place of its own, and takes the version out of service.
    pub(super) fn settle(self) {
        let AbandonedRun { batcher, batch, hold, took } = self;
        let is_replaced = hold.is_some_and(SlotHold::abandon);
        match batcher {
            Some(batcher) => batcher.abandon(batch.as_deref(), took, is_replaced),
            None => {
                tracing::error!(seconds = took.as_secs_f64(), "run of a load abandoned, it did not end when stopped")
            }
        }
    }
}
