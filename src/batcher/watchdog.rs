//! The watchdog: a thread that stops runs that nobody waits for or that take too long, and abandons those that can't be stopped.
//!
//! It checks every 10 ms while something runs, and sleeps once nothing has run for a second.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    watched_task::LoadWatch,
    watched_thread::{ThreadState, WatchedThread},
};
use crate::{
    engine::{RunControl, WatchdogWaker},
    metrics::StopReason,
};

/// Pause between two checks, and how late a run may be stopped.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// Without a run for so long the thread sleeps. Waking it costs the next run a few microseconds.
const SLEEP_AFTER: Duration = Duration::from_secs(1);

/// A handle to the thread.
#[derive(Clone)]
pub(super) struct Watchdog {
    shared: Arc<WatchdogShared>,
}

struct WatchdogShared {
    watcher: Arc<WatchdogWaker>,
    threads: Mutex<Vec<Arc<WatchedThread>>>,
    /// Runs that were abandoned and go on.
    abandoned: AtomicUsize,
    is_stopping: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Watches over the runs of the present thread while it lives, beside those of a load.
pub struct WatchedLoad {
    watchdog: Watchdog,
    watched: Option<Arc<WatchedThread>>,
    before: Option<Arc<WatchedThread>>,
}

impl Watchdog {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub(super) fn start() -> io::Result<Self> {
        let shared = Arc::new(WatchdogShared {
            watcher: Arc::default(),
            threads: Mutex::default(),
            abandoned: AtomicUsize::new(0),
            is_stopping: AtomicBool::new(false),
            thread: Mutex::new(None),
        });
        let watching = shared.clone();
        let thread = thread::Builder::new().name("watchdog".into()).spawn(move || watching.watch())?;
        shared.watcher.set_thread(thread.thread().clone());
        *shared.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(Watchdog { shared })
    }

    /// Watches over the runs of the present thread from now on.
    pub(super) fn watch_this_thread(&self) {
        WatchedThread::enter(self.register(false));
    }

    /// Forgets the present thread, which ends.
    pub(super) fn forget_this_thread(&self) {
        if let Some(watched) = WatchedThread::enter(None) {
            self.forget(&watched);
        }
    }

    /// Watches over the runs that the present thread makes for a load, each of which may take so long.
    pub(super) fn watch_load(&self, max_run_time: Option<Duration>, load: Arc<LoadWatch>) -> WatchedLoad {
        let watched = self.register(true);
        if let Some(watched) = &watched {
            watched.loads(max_run_time, load);
        }
        WatchedLoad { watchdog: self.clone(), before: WatchedThread::enter(watched.clone()), watched }
    }

    /// Runs that were abandoned and go on.
    pub(super) fn abandoned(&self) -> usize {
        self.shared.abandoned.load(Relaxed)
    }

    /// Ends the thread, and waits for that.
    pub(super) fn stop(&self) {
        self.shared.is_stopping.store(true, Relaxed);
        self.shared.watcher.wake();
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A thread that panicked has ended too.
            let _ = thread.join();
        }
    }

    fn register(&self, is_final: bool) -> Option<Arc<WatchedThread>> {
        match RunControl::new(&self.shared.watcher, is_final) {
            Ok(control) => {
                let watched = WatchedThread::new(control);
                self.shared.threads().push(watched.clone());
                Some(watched)
            }
            Err(error) => {
                tracing::warn!(%error, "runs of a thread can't be stopped");
                None
            }
        }
    }

    fn forget(&self, watched: &Arc<WatchedThread>) {
        let mut threads = self.shared.threads();
        let count = threads.len();
        threads.retain(|other| !Arc::ptr_eq(other, watched));
        let was_there = threads.len() < count;
        drop(threads);
        // One check more, at the end of an abandoned run.
        if was_there && matches!(watched.check(Instant::now()), ThreadState::Returned) {
            self.shared.abandoned.fetch_sub(1, Relaxed);
        }
    }
}

impl WatchedLoad {
    /// Why a run of the load was stopped, if one was. All runs fail after that.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.watched.as_ref().and_then(|watched| watched.control.stop_reason())
    }
}

impl Drop for WatchedLoad {
    fn drop(&mut self) {
        WatchedThread::enter(self.before.take());
        if let Some(watched) = &self.watched {
            self.watchdog.forget(watched);
        }
    }
}

impl WatchdogShared {
    fn watch(&self) {
        let mut last_run = Instant::now();
        while !self.is_stopping.load(Relaxed) {
            let now = Instant::now();
            if self.check(now) {
                last_run = now;
            }
            if now.saturating_duration_since(last_run) < SLEEP_AFTER {
                thread::park_timeout(CHECK_INTERVAL);
            } else {
                let is_needed =
                    || self.is_stopping.load(Relaxed) || self.threads().iter().any(|thread| thread.is_running());
                self.watcher.park(is_needed);
                last_run = Instant::now();
            }
        }
    }

    /// Checks every thread. True where any runs something.
    fn check(&self, now: Instant) -> bool {
        let mut abandoned = Vec::new();
        let mut is_running = false;
        // No run is begun or ended under this lock.
        for thread in &*self.threads() {
            match thread.check(now) {
                ThreadState::Idle => {}
                ThreadState::Busy => is_running = true,
                ThreadState::Returned => {
                    self.abandoned.fetch_sub(1, Relaxed);
                    is_running = true;
                }
                ThreadState::Abandoned(run) => {
                    self.abandoned.fetch_add(1, Relaxed);
                    abandoned.push(run);
                    is_running = true;
                }
            }
        }
        // Without the lock: a new thread has itself watched.
        for run in abandoned {
            run.settle();
        }
        is_running
    }

    fn threads(&self) -> MutexGuard<'_, Vec<Arc<WatchedThread>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
