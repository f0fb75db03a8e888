//! The access log: which requests have a line, and where lines wait to be written.

use std::{
    cell::RefCell,
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    config::Ratio,
    error::Code,
    metrics::{AccessLogMetrics, Unlogged},
};

/// Failed requests that have a line within a second though they are none of the sample: as many for the client's faults, and as
/// many for the server's, so that the one can't hide the other.
const ERRORS: u32 = 100;

/// Bytes of lines that wait to be written, at most.
const ROOM: usize = 4 << 20;

/// Time for which lines gather before they are written.
const GATHER: Duration = Duration::from_millis(50);

/// Bytes of lines that are not waited with.
const ENOUGH: usize = 256 << 10;

thread_local! {
    /// The buffer that a thread writes a line into.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The access log. Requests never wait for it: where it does not keep up, lines are lost, and counted.
#[derive(Debug)]
pub struct AccessLog {
    sample: Ratio,
    /// Lines that are left in this second for the client's faults, and for the server's.
    errors: [Mutex<Second>; 2],
    lines: Mutex<Lines>,
    changed: Condvar,
    metrics: AccessLogMetrics,
}

/// Lines that wait to be written.
#[derive(Debug, Default)]
pub struct Lines {
    /// Their bytes.
    pub bytes: Vec<u8>,
    /// The file is to be reopened.
    pub reopen: bool,
    /// There will be no more.
    pub closed: bool,
    /// True while the writer waits for the first line.
    is_awaited: bool,
}

/// Failed requests of a second.
#[derive(Debug, Default)]
struct Second {
    began: Option<Instant>,
    taken: u32,
    /// Failed requests without a line since the last one that had a line.
    left_out: u64,
}

impl Second {
    /// Takes one more, if there may be one, and gives the number before it that have no line.
    fn take(&mut self, now: Instant) -> Option<u64> {
        if self.began.is_none_or(|began| now.saturating_duration_since(began) >= Duration::from_secs(1)) {
            (self.began, self.taken) = (Some(now), 0);
        }
        if self.taken == ERRORS {
            self.left_out += 1;
            return None;
        }
        self.taken += 1;
        Some(mem::take(&mut self.left_out))
    }
}

impl AccessLog {
    /// A log of this part of the requests.
    pub fn new(sample: Ratio, metrics: AccessLogMetrics) -> Self {
        AccessLog { sample, errors: Default::default(), lines: Mutex::default(), changed: Condvar::new(), metrics }
    }

    /// The number of failed requests that have no line, if the request that ended now is to have one.
    pub(super) fn takes(&self, failed: Option<Code>) -> Option<u64> {
        if self.sample.takes(fastrand::f64) {
            return Some(0);
        }
        let fault = &self.errors[usize::from(failed?.http() >= 500)];
        let left_out = fault.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
        if left_out.is_none() {
            self.metrics.unlogged(Unlogged::Errors, 1);
        }
        left_out
    }

    /// Has a line written, which `write` makes.
    pub(super) fn note(&self, write: &dyn Fn(&mut Vec<u8>)) {
        LINE.with_borrow_mut(|line| {
            line.clear();
            write(line);
            self.push(line);
        });
    }

    fn push(&self, line: &[u8]) {
        let mut lines = self.lines();
        let before = lines.bytes.len();
        if before + line.len() > ROOM {
            drop(lines);
            return self.metrics.unlogged(Unlogged::Full, 1);
        }
        lines.bytes.extend_from_slice(line);
        let wakes = mem::take(&mut lines.is_awaited) || before < ENOUGH && lines.bytes.len() >= ENOUGH;
        drop(lines);
        if wakes {
            self.changed.notify_one();
        }
    }

    /// Waits for lines, and for more of them for a moment, and takes them.
    pub fn take(&self) -> Lines {
        let mut lines = self.lines();
        while lines.bytes.is_empty() && !lines.is_urgent() {
            lines.is_awaited = true;
            lines = self.changed.wait(lines).unwrap_or_else(PoisonError::into_inner);
        }
        lines.is_awaited = false;
        let gathers = |lines: &mut Lines| lines.bytes.len() < ENOUGH && !lines.is_urgent();
        let waited = self.changed.wait_timeout_while(lines, GATHER, gathers);
        let (mut lines, _) = waited.unwrap_or_else(PoisonError::into_inner);
        Lines { bytes: mem::take(&mut lines.bytes), reopen: mem::take(&mut lines.reopen), ..*lines }
    }

    /// Has the file reopened.
    pub fn reopen(&self) {
        self.lines().reopen = true;
        self.changed.notify_one();
    }

    /// Has the writer end with the lines that there are.
    pub fn close(&self) {
        self.lines().closed = true;
        self.changed.notify_one();
    }

    /// So many lines could not be written.
    pub fn lost(&self, lines: u64) {
        self.metrics.unlogged(Unlogged::Write, lines);
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        // Between any two of its changes it is whole.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn is_urgent(&self) -> bool {
        self.reopen || self.closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_log_limits_failures_per_second() {
        let (start, mut second) = (Instant::now(), Second::default());
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        assert!((0..u64::from(ERRORS)).all(|at_once| second.take(at(at_once)) == Some(0)));
        assert!((0..7).all(|_| second.take(at(999)).is_none()));
        assert_eq!(second.take(at(1000)), Some(7));
        assert_eq!(second.take(at(1001)), Some(0));
    }

    fn log(sample: &str) -> AccessLog {
        AccessLog::new(sample.parse().unwrap(), AccessLogMetrics::default())
    }

    fn count(log: &AccessLog, requests: usize, failed: Option<Code>) -> usize {
        let taken = (0..requests).filter(|_| log.takes(failed).is_some());
        taken.for_each(|_| log.note(&|line| line.push(b'\n')));
        log.take().bytes.len()
    }

    #[test]
    fn access_log_samples_successes_and_keeps_failures() {
        assert_eq!(count(&log("1"), 10_000, None), 10_000);
        let part = count(&log("0.1"), 10_000, None);
        // Six times the standard deviation.
        assert!((820..=1180).contains(&part), "{part}");
        let none = log("0");
        assert_eq!(count(&none, 5, Some(Code::Internal)), 5);
        // Errors of the client have their own hundred.
        assert_eq!(count(&none, 50, Some(Code::NotFound)), 50);
        assert_eq!(count(&log("1"), 500, Some(Code::NotFound)), 500);
    }

    #[test]
    fn access_log_bounds_unwritten_lines() {
        let log = log("1");
        let long = vec![b'x'; 1 << 20];
        (0..9).for_each(|_| log.note(&|line| line.extend_from_slice(&long)));
        log.close();
        let lines = log.take();
        assert_eq!((lines.bytes.len(), lines.closed), (ROOM, true));
    }
}
