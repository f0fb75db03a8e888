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

use super::session_thread;
use crate::metrics::StopReason;

/// The run options of one thread, and the state of its present run.
pub struct RunControl {
    options: RunOptions,
    /// For sessions that record runs: the number of no recording stands in them.
    unrecorded: Arc<RunOptions>,
    /// The number of the last run in steps of [`STEP`], with the flags below.
    state: AtomicU64,
    /// The last run that was stopped, and why.
    stopped: Mutex<Option<(u64, StopReason)>>,
    /// Whether a stop holds for all runs that follow.
    is_final: bool,
    watcher: Arc<Watcher>,
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
pub struct Watcher {
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

impl Watcher {
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
    pub fn new(watcher: &Arc<Watcher>, is_final: bool) -> Result<Self, String> {
        let options = || Ok::<_, ort::Error>((RunOptions::new()?, session_thread::options(-1)?));
        let (options, unrecorded) = options().map_err(|error| error.to_string())?;
        let (state, stopped) = (AtomicU64::new(0), Mutex::new(None));
        let (watcher, making) = (watcher.clone(), Mutex::default());
        Ok(RunControl { options, unrecorded, state, stopped, is_final, watcher, making })
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
        let _ = self.unrecorded.terminate();
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
            let _ = self.unrecorded.unterminate();
        }
    }

    fn stopped(&self) -> MutexGuard<'_, Option<(u64, StopReason)>> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the present run of this thread is to end: for runs that happen elsewhere, which have to look for it.
pub fn is_stop_requested() -> bool {
    CONTROL.with_borrow(|control| control.as_ref().is_some_and(|control| control.state.load(Relaxed) & STOPPED != 0))
}

/// Why the last run of this thread was stopped, if it was.
pub fn stop_reason() -> Option<StopReason> {
    CONTROL.with_borrow(|control| control.as_ref().and_then(|control| control.stop_reason()))
}

/// Does the work as one run, which the thread's control can stop.
pub(super) fn controlled<T>(work: impl FnOnce() -> T) -> T {
    /// Ends the run, also where the work panics.
    struct Run<'a>(&'a RunControl);

    impl Drop for Run<'_> {
        fn drop(&mut self) {
            self.0.end();
        }
    }

    CONTROL.with_borrow(|control| match control {
        Some(control) if control.state.load(Relaxed) & RUNNING == 0 => {
            control.begin();
            let _run = Run(control);
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

/// Whether the load that this thread makes is given up: for sessions that are made elsewhere, which have to look for it.
pub(super) fn is_session_given_up() -> bool {
    CONTROL.with_borrow(|control| control.as_ref().is_some_and(|control| control.making().is_given_up))
}

/// Calls ONNX Runtime with the options of this thread's runs; none where nobody controls them.
pub(super) fn with_options<T>(call: impl FnOnce(Option<&RunOptions>) -> T) -> T {
    CONTROL.with_borrow(|control| call(control.as_ref().map(|control| &control.options)))
}

/// The options of this thread's runs for a session that records some.
pub(super) fn unrecorded_options() -> Option<Arc<RunOptions>> {
    CONTROL.with_borrow(|control| control.as_ref().map(|control| control.unrecorded.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{Engine, Target},
        host::files::ModelPath,
        tensor::{Datatype, ModelInputs, Shape, Tensor},
    };
    use std::{num::NonZeroUsize, path::Path, sync::atomic::AtomicUsize, thread};

    #[test]
    fn stop_reaches_the_run_that_it_names_and_no_other() {
        let _engine = Engine::for_tests();
        let control = Arc::new(RunControl::new(&Arc::default(), false).unwrap());
        RunControl::enter(Some(control.clone()));
        assert_eq!(control.running(), None);
        let first = controlled(|| {
            let number = control.running().unwrap();
            assert!(control.stop(number, StopReason::Deadline) && is_stop_requested());
            assert!(!control.stop(number, StopReason::Cancelled), "it is stopped already");
            number
        });
        assert_eq!((stop_reason(), is_stop_requested()), (Some(StopReason::Deadline), false));
        assert!(!control.stop(first, StopReason::Deadline), "it has ended");
        controlled(|| {
            assert!(!control.stop(first, StopReason::Deadline), "another run goes on");
            assert!(!is_stop_requested());
        });
        assert_eq!(stop_reason(), None);
        RunControl::enter(None);
    }

    /// A run that is not said to be stopped goes well, whenever others are.
    #[test]
    fn stop_never_hits_the_next_run() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/simple/1/model.onnx");
        let mut instance =
            Engine::for_tests().load(&ModelPath::alone(&model), &Target::cpu(NonZeroUsize::MIN)).unwrap();
        let input = || Tensor::new(Datatype::Int32, Shape::new(vec![1, 16]), vec![0; 64].into()).unwrap();
        let inputs: ModelInputs = vec![input(), input()].into();
        let control = Arc::new(RunControl::new(&Arc::default(), false).unwrap());
        let (is_over, stops) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    let stopped = control.running().is_some_and(|run| control.stop(run, StopReason::Cancelled));
                    stops.fetch_add(usize::from(stopped), Relaxed);
                    thread::yield_now();
                }
            });
            RunControl::enter(Some(control.clone()));
            let mut runs = 0;
            // Some are stopped, and some are not.
            while runs < 2000 || stops.load(Relaxed) < 100 {
                let outputs = instance.run(&[&inputs]).outputs;
                assert!(outputs.is_ok() || stop_reason().is_some(), "{outputs:?}");
                runs += 1;
                if runs % 2 == 0 {
                    thread::yield_now();
                }
            }
            is_over.store(true, Relaxed);
            RunControl::enter(None);
        });
    }

    #[test]
    fn final_stop_holds_for_the_runs_that_follow() {
        let _engine = Engine::for_tests();
        let control = Arc::new(RunControl::new(&Arc::default(), true).unwrap());
        RunControl::enter(Some(control.clone()));
        controlled(|| control.stop(control.running().unwrap(), StopReason::MaxRunTime));
        controlled(|| ());
        assert_eq!(stop_reason(), Some(StopReason::MaxRunTime));
        RunControl::enter(None);
    }
}
