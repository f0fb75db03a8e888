//! Stops the runs of one thread from another, by the terminate flag of ONNX Runtime's run options.
//!
//! Each thread that runs models owns one [`RunControl`], and all its runs pass the options in there. A run costs two atomic
//! exchanges. Only one that is stopped takes a lock: the thread then resets the flag, so that its next run is not stopped too.

use ort::session::{RunOptions, builder::LoadCanceler};
use std::{
    cell::RefCell,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed, SeqCst},
        },
    },
    thread::Thread,
};

use super::cuda::graph_capture::{NO_GRAPH, graph_options};
use crate::metrics::StopReason;

/// The run options of one thread, and the state of its present run.
pub struct RunControl {
    options: RunOptions,
    /// For sessions that capture CUDA graphs: the number of no graph stands in them.
    no_graph: Arc<RunOptions>,
    /// The number of the last run in steps of [`STEP`], with the flags below.
    state: AtomicU64,
    /// The last run that was stopped, and why.
    stopped: Mutex<Option<(u64, StopReason)>>,
    /// True if a stop holds for all runs that follow.
    is_final: bool,
    watcher: Arc<WatchdogWaker>,
    /// Of the session that the thread makes now, or has made last.
    making: Mutex<Making>,
}

/// The sessions that a thread makes.
#[derive(Default)]
struct Making {
    last: Option<LoadCanceler>,
    is_given_up: bool,
}

const RUNNING: u64 = 1;
const STOPPED: u64 = 2;
const STEP: u64 = 4;

/// Wakes the thread that watches over runs when one begins after a pause.
#[derive(Default)]
pub struct WatchdogWaker {
    is_parked: AtomicBool,
    thread: OnceLock<Thread>,
}

thread_local! {
    static CONTROL: RefCell<Option<Arc<RunControl>>> = const { RefCell::new(None) };
}

impl Making {
    fn cancel(&self) {
        if let Some(canceler) = &self.last {
            // It fails for want of memory only, and then the load is abandoned.
            let _ = canceler.cancel();
        }
    }
}

impl WatchdogWaker {
    /// Sets the thread that [`Self::park`] is called on.
    pub fn set_thread(&self, thread: Thread) {
        let _ = self.thread.set(thread);
    }

    /// Blocks until a run begins or [`Self::wake`] is called; not at all if a run goes on, which `is_running` says.
    pub fn park(&self, is_running: impl Fn() -> bool) {
        self.is_parked.store(true, SeqCst);
        // A run that begins after this store sees it; one that began before is seen here.
        if !is_running() {
            std::thread::park();
        }
        self.is_parked.store(false, SeqCst);
    }

    /// Ends [`Self::park`].
    pub fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn run_begins(&self) {
        if self.is_parked.load(SeqCst) {
            self.wake();
        }
    }
}

impl RunControl {
    /// A control for one thread. With `is_final` a stop holds for all its runs from then on, as for a load, which has failed
    /// then.
    ///
    /// # Errors
    /// ONNX Runtime's words: it has no run options.
    pub fn new(watcher: &Arc<WatchdogWaker>, is_final: bool) -> Result<Self, String> {
        let options = || Ok::<_, ort::Error>((RunOptions::new()?, graph_options(NO_GRAPH)?));
        let (options, no_graph) = options().map_err(|error| error.to_string())?;
        let (state, stopped) = (AtomicU64::new(0), Mutex::new(None));
        let (watcher, making) = (watcher.clone(), Mutex::default());
        Ok(RunControl { options, no_graph, state, stopped, is_final, watcher, making })
    }

    /// Makes this the control of the present thread, and returns the one before.
    pub fn enter(control: Option<Arc<RunControl>>) -> Option<Arc<RunControl>> {
        CONTROL.replace(control)
    }

    /// The control of the present thread, if it has one.
    pub fn here() -> Option<Arc<RunControl>> {
        CONTROL.with_borrow(Clone::clone)
    }

    /// Has ONNX Runtime give up the session that the thread makes, if it makes one, and all that follow. It does so between
    /// two steps of the making.
    pub fn give_up_sessions(&self) {
        let mut making = self.making();
        making.is_given_up = true;
        making.cancel();
    }

    fn making(&self) -> MutexGuard<'_, Making> {
        self.making.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the run that goes on now, if one does.
    pub fn running(&self) -> Option<u64> {
        let state = self.state.load(SeqCst);
        (state & RUNNING != 0).then_some(state & !(RUNNING | STOPPED))
    }

    /// Stops the run of this number. False if it has ended, or is stopped already.
    pub fn stop(&self, number: u64, reason: StopReason) -> bool {
        let mut stopped = self.stopped();
        let running = number | RUNNING;
        if self.state.compare_exchange(running, running | STOPPED, SeqCst, Relaxed).is_err() {
            return false;
        }
        *stopped = Some((number, reason));
        // Either can fail for want of memory only, and then the watchdog abandons the run.
        let _ = self.options.terminate();
        let _ = self.no_graph.terminate();
        true
    }

    /// Why the last run was stopped, if it was; with `is_final`: why any was.
    pub fn stop_reason(&self) -> Option<StopReason> {
        let last = self.state.load(Acquire) & !(RUNNING | STOPPED);
        let stopped = *self.stopped();
        stopped.filter(|(number, _)| self.is_final || *number == last).map(|(_, reason)| reason)
    }

    fn begin(&self) {
        // Only this thread changes the number.
        let next = (self.state.load(Relaxed) & !(RUNNING | STOPPED)).wrapping_add(STEP);
        self.state.swap(next | RUNNING, SeqCst);
        self.watcher.run_begins();
    }

    fn end(&self) {
        let ended = self.state.load(Relaxed) & !(RUNNING | STOPPED);
        let state = self.state.swap(ended, SeqCst);
        if state & STOPPED != 0 && !self.is_final {
            // The lock is held by whoever stops the run until the flag is set.
            let _held = self.stopped();
            let _ = self.options.unterminate();
            let _ = self.no_graph.unterminate();
        }
    }

    fn stopped(&self) -> MutexGuard<'_, Option<(u64, StopReason)>> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True if the present run of this thread is to end: runs in other processes have to check for it.
pub fn is_stop_requested() -> bool {
    CONTROL.with_borrow(|control| control.as_ref().is_some_and(|control| control.state.load(Relaxed) & STOPPED != 0))
}

/// The reason that the last run of this thread was stopped, if it was.
pub fn stop_reason() -> Option<StopReason> {
    CONTROL.with_borrow(|control| control.as_ref().and_then(|control| control.stop_reason()))
}

/// Does the work as one run, which the thread's control can stop.
pub(super) fn controlled<T>(work: impl FnOnce() -> T) -> T {
    /// Ends the run, also where the work panics.
    struct RunGuard<'a>(&'a RunControl);

    impl Drop for RunGuard<'_> {
        fn drop(&mut self) {
            self.0.end();
        }
    }

    CONTROL.with_borrow(|control| match control {
        Some(control) if control.state.load(Relaxed) & RUNNING == 0 => {
            control.begin();
            let _run = RunGuard(control);
            work()
        }
        Some(_) | None => work(),
    })
}

/// Registers the session that this thread makes now, so that it can be given up.
pub(super) fn makes_session(canceler: LoadCanceler) {
    CONTROL.with_borrow(|control| {
        if let Some(control) = control {
            let mut making = control.making();
            making.last = Some(canceler);
            if making.is_given_up {
                making.cancel();
            }
        }
    });
}

/// True if the load that this thread makes is given up: sessions that are made in other processes have to check for it.
pub(super) fn is_session_given_up() -> bool {
    CONTROL.with_borrow(|control| control.as_ref().is_some_and(|control| control.making().is_given_up))
}

/// Calls ONNX Runtime with the options of this thread's runs; none where nobody controls them.
pub(super) fn with_options<T>(call: impl FnOnce(Option<&RunOptions>) -> T) -> T {
    CONTROL.with_borrow(|control| call(control.as_ref().map(|control| &control.options)))
}

/// The options of this thread's runs for a session that captures CUDA graphs.
pub(super) fn no_graph_options() -> Option<Arc<RunOptions>> {
    CONTROL.with_borrow(|control| control.as_ref().map(|control| control.no_graph.clone()))
}

#[cfg(test)]
mod tests;
