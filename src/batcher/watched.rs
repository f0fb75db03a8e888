//! A thread that runs models, as the watchdog sees it.

use std::{
    cell::{Cell, RefCell},
    ptr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{
            AtomicBool,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::{Duration, Instant},
};

use super::{
    Batcher,
    batch::{Members, SharedBatch},
    compute::Hold,
    watchdog::Watchdog,
};
use crate::{
    engine::RunControl,
    error::{Code, Error, Lost},
    metrics::StopReason,
};

/// How long a run that is stopped for its time may ignore that. ONNX Runtime looks for the stop between two operators, so a run
/// that goes on for longer is within one operator, and may never come back.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

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
    is_stopped: bool,
    is_abandoned: bool,
}

/// What a thread runs.
#[derive(Default)]
enum Task {
    #[default]
    None,
    /// Batches of this batcher, in place.
    InPlace(Arc<Weak<Batcher>>),
    /// These jobs of a batch.
    Batch(Arc<Batcher>, Arc<SharedBatch>, Members),
    /// Runs of a load, each of which may take so long.
    Load(Option<Duration>, Arc<LoadWatch>),
}

/// The connection between a load, whose runs are watched, and whoever has started it.
pub struct LoadWatch {
    is_given_up: AtomicBool,
    is_stuck: AtomicBool,
    /// Of the thread that loads.
    control: OnceLock<Arc<RunControl>>,
    notify_stuck: Box<dyn Fn() + Send + Sync>,
}

impl LoadWatch {
    /// A load is about to begin. The function is called once [`Self::is_stuck`] holds; it must not block.
    pub fn new(notify_stuck: impl Fn() + Send + Sync + 'static) -> Self {
        let (is_given_up, is_stuck) = (AtomicBool::new(false), AtomicBool::new(false));
        LoadWatch { is_given_up, is_stuck, control: OnceLock::new(), notify_stuck: Box::new(notify_stuck) }
    }

    /// Stops the load's present run, or the session that it makes, and all that would follow.
    pub fn give_up(&self) {
        self.is_given_up.store(true, SeqCst);
        if let Some(control) = self.control.get() {
            control.give_up_sessions();
        }
    }

    fn begin(&self, control: &Arc<RunControl>) {
        let _ = self.control.set(control.clone());
        // It may have been given up before.
        if self.is_given_up.load(SeqCst) {
            control.give_up_sessions();
        }
    }

    /// Whether a run of the load was stopped and did not end.
    pub fn is_stuck(&self) -> bool {
        self.is_stuck.load(Relaxed)
    }
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
        let first = Seen { number, since: now, is_stopped: false, is_abandoned: false };
        let seen = seen.get_or_insert(first);
        let took = now.saturating_duration_since(seen.since);
        if !seen.is_stopped {
            if let Some(reason) = task.stop_reason(now, took)
                && self.control.stop(number, reason)
            {
                seen.is_stopped = true;
                task.report_stop(reason, took);
            }
        } else if !seen.is_abandoned && task.is_overdue(took) {
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
                    load.is_stuck.store(true, Relaxed);
                    (load.notify_stuck)();
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

impl Task {
    /// Why the run should end, if it should.
    fn stop_reason(&self, now: Instant, took: Duration) -> Option<StopReason> {
        let is_too_long = |most: Option<Duration>| most.is_some_and(|most| took >= most);
        let reason = match self {
            Task::None => return None,
            Task::InPlace(batcher) => is_too_long(batcher.upgrade()?.settings.max_run_time),
            Task::Batch(batcher, batch, members) => match batch.end_of_interest(members, now) {
                Some(reason) => return Some(reason),
                None => is_too_long(batcher.settings.max_run_time),
            },
            Task::Load(_, load) if load.is_given_up.load(Relaxed) => return Some(StopReason::LoadEnded),
            Task::Load(most, _) => is_too_long(*most),
        };
        reason.then_some(StopReason::MaxRunTime)
    }

    /// Whether a run that was stopped should have ended by now. One that was stopped for its clients' sake has the time that
    /// every run has.
    fn is_overdue(&self, took: Duration) -> bool {
        let most = match self {
            Task::None => None,
            Task::InPlace(batcher) => batcher.upgrade().and_then(|batcher| batcher.settings.max_run_time),
            Task::Batch(batcher, ..) => batcher.settings.max_run_time,
            Task::Load(most, _) => *most,
        };
        most.is_some_and(|most| took >= most.saturating_add(STOP_TIMEOUT))
    }

    fn report_stop(&self, reason: StopReason, took: Duration) {
        let batcher = match self {
            Task::Batch(batcher, ..) => Some(batcher.clone()),
            Task::InPlace(batcher) => batcher.upgrade(),
            Task::None | Task::Load(..) => None,
        };
        if let Some(batcher) = batcher {
            batcher.metrics.run_stopped(reason);
            let (label, seconds) = (&batcher.label, took.as_secs_f64());
            if reason == StopReason::MaxRunTime {
                tracing::warn!(seconds, "a run of {label} was stopped: it took longer than max_run_time");
            } else {
                tracing::debug!(seconds, reason = reason.label(), "a run of {label} was stopped");
            }
        }
    }
}

impl Abandoned {
    /// Answers who waits for the run, has another thread take the place of its own, and takes the version out of service.
    pub(super) fn settle(self) {
        let Abandoned { batcher, batch, hold, took } = self;
        let is_replaced = hold.is_some_and(Hold::abandon);
        let Some(batcher) = batcher else {
            return tracing::error!(seconds = took.as_secs_f64(), "a run of a load does not end, and was abandoned");
        };
        let why = format!(
            "a run did not end within {STOP_TIMEOUT:?} after it was stopped at max_run_time, and was abandoned"
        );
        if let Some(batch) = batch {
            let message = format!("{}: {why}", batcher.label);
            batch.refuse_all(&Error::new(Code::DeadlineExceeded, message));
        }
        batcher.metrics.run_abandoned();
        let seconds = took.as_secs_f64();
        let lost = if is_replaced { "another thread takes its place" } else { "no thread takes its place" };
        tracing::error!(seconds, "{}: {why}; {lost}", batcher.label);
        batcher.lose(Lost::for_good(why));
    }
}
