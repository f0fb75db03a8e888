//! Calls the GPU driver on a thread of its own, with a timeout: a call of a broken driver may take minutes, or never end.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// A thread that makes a call at each request. Requests at the same time share one answer.
pub(super) struct DriverThread<T> {
    shared: Arc<DriverShared<T>>,
}

struct DriverShared<T> {
    state: Mutex<DriverState<T>>,
    changed: Condvar,
}

struct DriverState<T> {
    /// Number of requests, and of those that have their answer. An answer is for the requests that came before its call began.
    wanted: u64,
    answered: u64,
    /// The last answer; or the reason why the calls can't be made.
    answer: Option<Result<Arc<T>, Arc<str>>>,
    /// Time since which the thread has been waiting for an answer.
    waiting: Option<Instant>,
}

/// Reason why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DriverError {
    /// Calls can't be made; the reason, for people.
    Unavailable(Arc<str>),
    /// The answer has not come in time.
    Timeout,
}

impl<T: Send + Sync + 'static> DriverThread<T> {
    /// Starts the thread. `open` runs once, and returns the function that makes the calls.
    pub(super) fn start<A: FnMut() -> T>(
        name: &str,
        open: impl FnOnce() -> Result<A, String> + Send + 'static,
    ) -> Self {
        let state = DriverState { wanted: 0, answered: 0, answer: None, waiting: Some(Instant::now()) };
        let shared = Arc::new(DriverShared { state: Mutex::new(state), changed: Condvar::new() });
        let thread = shared.clone();
        let started = thread::Builder::new().name(name.into()).spawn(move || thread.work(open));
        if let Err(error) = started {
            shared.state().answer = Some(Err(format!("no thread can be started to ask: {error}").into()));
        }
        DriverThread { shared }
    }

    /// Requests a call and returns its answer. The time that earlier requests have waited for a running call counts against
    /// `timeout`.
    ///
    /// # Errors
    /// There is no answer.
    pub(super) fn ask(&self, timeout: Duration) -> Result<Arc<T>, DriverError> {
        let mut state = self.shared.state();
        state.wanted += 1;
        let (wanted, now) = (state.wanted, Instant::now());
        self.shared.changed.notify_all();
        let left = (state.waiting.unwrap_or(now) + timeout).saturating_duration_since(now);
        let is_late = |state: &mut DriverState<T>| state.answered < wanted && !matches!(state.answer, Some(Err(_)));
        let waited = self.shared.changed.wait_timeout_while(state, left, is_late);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if is_late(&mut state) {
            return Err(DriverError::Timeout);
        }
        state.answer.clone().unwrap_or_else(|| Err("nothing was asked".into())).map_err(DriverError::Unavailable)
    }
}

impl<T> DriverShared<T> {
    fn work<A: FnMut() -> T>(&self, open: impl FnOnce() -> Result<A, String>) {
        let mut ask = match open() {
            Ok(ask) => ask,
            Err(why) => {
                self.state().answer = Some(Err(why.into()));
                return self.changed.notify_all();
            }
        };
        let mut state = self.state();
        loop {
            state.waiting = None;
            let wanted = self.changed.wait_while(state, |state| state.answered == state.wanted);
            state = wanted.unwrap_or_else(PoisonError::into_inner);
            state.waiting = Some(Instant::now());
            let wanted = state.wanted;
            drop(state);
            let answer = ask();
            state = self.state();
            state.answered = wanted;
            state.answer = Some(Ok(answer.into()));
            self.changed.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, DriverState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn driver_call_times_out_and_returns_fresh_answers() {
        let (give, given) = channel();
        let driver = DriverThread::start("test", move || {
            let mut number = 0;
            Ok(move || {
                // The call ends when the test lets it.
                let () = given.recv().unwrap();
                number += 1;
                number
            })
        });
        for number in 1..4 {
            give.send(()).unwrap();
            assert_eq!(driver.ask(LONG), Ok(number.into()));
        }
        let short = Duration::from_millis(1);
        assert_eq!(driver.ask(short), Err(DriverError::Timeout));
        // The call is running already, and has been for longer than the timeout.
        let started = Instant::now();
        for _ in 0..1000 {
            assert_eq!(driver.ask(short), Err(DriverError::Timeout));
        }
        assert!(started.elapsed() < LONG);
        // At most two answers for requests that timed out, and a new one.
        for _ in 0..3 {
            give.send(()).unwrap();
        }
        assert!((5..=6).contains(&*driver.ask(LONG).unwrap()));
    }

    #[test]
    fn driver_call_without_a_driver_reports_the_cause() {
        let open = || if true { Err("there is no driver".to_owned()) } else { Ok(|| ()) };
        let driver = DriverThread::start("test", open);
        for _ in 0..2 {
            assert_eq!(driver.ask(LONG), Err(DriverError::Unavailable("there is no driver".into())));
        }
    }
}
