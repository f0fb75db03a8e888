//! A thread that runs models, as the watchdog sees it.

use std::{
    cell::{Cell, RefCell},
    ptr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use super::{
    Batcher,
    batch::{Members, SharedBatch},
    compute::Hold,
    task::{LoadWatch, STOP_TIMEOUT, Task},
    watchdog::Watchdog,
};
use crate::{
    engine::RunControl,
    error::{Code, Error, Lost},
};

/// A thread that runs models.
pub(super) struct Watched {
    pub control: Arc<RunControl>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    task: Task,
    /// The slots of the thread's run, and the thread itself, where another can take its place.
    hold: Option<Hold>,
    seen: Option<Seen>,
}

/// A run, as the watchdog saw it first.
struct Seen {
    number: u64,
    since: Instant,
    stopped_at: Option<Instant>,
    is_abandoned: bool,
}

/// What the watchdog has found of a thread.
pub(super) enum Finding {
    /// It runs nothing.
    Idle,
    /// It runs something.
    Busy,
    /// It runs something that does not end though it is stopped.
    Abandoned(Abandoned),
    /// Its abandoned run has ended after all.
    Back,
}

/// A run that is not waited for any more.
pub(super) struct Abandoned {
    batcher: Option<Arc<Batcher>>,
    batch: Option<Arc<SharedBatch>>,
    hold: Option<Hold>,
    took: Duration,
}

thread_local! {
    static WATCHED: RefCell<Option<Arc<Watched>>> = const { RefCell::new(None) };
    /// What this thread holds while it drives a batcher.
    static HOLD: RefCell<Option<Hold>> = const { RefCell::new(None) };
    /// Whose batches this thread runs in place, for comparison only.
    static IN_PLACE: Cell<*const Weak<Batcher>> = const { Cell::new(ptr::null()) };
}

impl Watched {
    pub(super) fn new(control: RunControl) -> Arc<Self> {
        Arc::new(Watched { control: control.into(), state: Mutex::default() })
    }

    /// Has this describe the present thread; returns what did before.
    pub(super) fn enter(watched: Option<Arc<Watched>>) -> Option<Arc<Watched>> {
        RunControl::enter(watched.as_ref().map(|watched| watched.control.clone()));
        IN_PLACE.set(ptr::null());
        WATCHED.replace(watched)
    }

    /// Registers the load whose runs the thread makes.
    pub(super) fn loads(&self, max_run_time: Option<Duration>, load: Arc<LoadWatch>) {
        load.begin(&self.control);
        self.state().task = Task::Load(max_run_time, load);
    }

    /// Looks at the thread's run: stops it where it should end, and gives it up where it does not.
    pub(super) fn look(&self, now: Instant) -> Finding {
        let mut state = self.state();
        let State { task, hold, seen } = &mut *state;
        let running = self.control.running();
        let was_abandoned = seen.take_if(|seen| Some(seen.number) != running).is_some_and(|seen| seen.is_abandoned);
        if was_abandoned {
            return Finding::Back;
        }
        let Some(number) = running else { return Finding::Idle };
        let first = Seen { number, since: now, stopped_at: None, is_abandoned: false };
        let seen = seen.get_or_insert(first);
        let took = now.saturating_duration_since(seen.since);
        let Some(stopped_at) = seen.stopped_at else {
            if let Some(reason) = task.stop_reason(now, took)
                && self.control.stop(number, reason)
            {
                seen.stopped_at = Some(now);
                task.report_stop(reason, took);
            }
            return Finding::Busy;
        };
        if !seen.is_abandoned && task.is_overdue(took, now.saturating_duration_since(stopped_at)) {
            seen.is_abandoned = true;
            let abandoned = match task {
                // The thread finds by this that its run was abandoned.
                Task::Batch(..) => std::mem::take(task),
                _ => Task::None,
            };
            let (batcher, batch) = match (abandoned, &*task) {
                (Task::Batch(batcher, batch, _), _) => (Some(batcher), Some(batch)),
                (_, Task::InPlace(batcher)) => (batcher.upgrade(), None),
                (_, Task::Load(_, load)) => {
                    load.stick();
                    (None, None)
                }
                _ => (None, None),
            };
            return Finding::Abandoned(Abandoned { batcher, batch, hold: hold.take(), took });
        }
        Finding::Busy
    }

    /// Whether the thread runs something.
    pub(super) fn is_running(&self) -> bool {
        self.control.running().is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Registers the batcher whose batches the present thread runs in place. Costs a comparison where it did so last time.
pub(super) fn runs_in_place(batcher: &Arc<Weak<Batcher>>, watchdog: &Watchdog) {
    if ptr::eq(IN_PLACE.get(), Arc::as_ptr(batcher)) {
        return;
    }
    with_watched(watchdog, |watched| {
        // It is kept there, so no other can come to lie at its address.
        watched.state().task = Task::InPlace(batcher.clone());
        IN_PLACE.set(Arc::as_ptr(batcher));
    });
}

/// Registers the slots that the present thread holds from now on.
pub(super) fn holds(hold: Hold) {
    HOLD.set(Some(hold));
}

/// Registers the jobs of a batch that the present thread runs.
pub(super) fn runs_batch(batcher: &Arc<Batcher>, batch: &Arc<SharedBatch>, members: &[usize]) {
    with_watched(batcher.compute.watchdog(), |watched| {
        let mut state = watched.state();
        state.task = Task::Batch(batcher.clone(), batch.clone(), Members::from_slice(members));
        state.hold = HOLD.with_borrow(Clone::clone);
    });
}

/// Has the present thread be watched from its first run on: before that there may be no library that has run options.
fn with_watched(watchdog: &Watchdog, work: impl FnOnce(&Watched)) {
    if WATCHED.with_borrow(Option::is_none) {
        watchdog.watch_this_thread();
    }
    WATCHED.with_borrow(|watched| watched.as_deref().map(work));
}

/// Registers the end of the present thread's run of a batch. False if it was abandoned: its jobs have been answered.
pub(super) fn batch_ended() -> bool {
    WATCHED.with_borrow(|watched| {
        let Some(watched) = watched else { return true };
        let mut state = watched.state();
        state.hold = None;
        matches!(std::mem::take(&mut state.task), Task::Batch(..))
    })
}

impl Abandoned {
    /// Answers who waits for the run, has another thread take the place of its own, and takes the version out of service.
    pub(super) fn settle(self) {
        let Abandoned { batcher, batch, hold, took } = self;
        let is_replaced = hold.is_some_and(Hold::abandon);
        let Some(batcher) = batcher else {
            return tracing::error!(
                seconds = took.as_secs_f64(),
                "run of a load abandoned: it did not end when it was stopped"
            );
        };
        let why = format!(
            "a run did not end within {STOP_TIMEOUT:?} after it was stopped at max_run_time, and was abandoned"
        );
        if let Some(batch) = batch {
            let message = format!("{}: {why}", batcher.label);
            batch.refuse_all(&Error::new(Code::DeadlineExceeded, message));
        }
        batcher.metrics.run_abandoned();
        let (model, version, seconds) = (&*batcher.model, batcher.version, took.as_secs_f64());
        tracing::error!(model, version, seconds, is_replaced, "run abandoned: {why}");
        batcher.lose(Lost::for_good(why));
    }
}
