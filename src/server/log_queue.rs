//! The bounded queue between the threads that log and the thread that writes to stderr.
//!
//! A pipe that nobody reads blocks its writer. Only the log thread may wait for it. Every other thread appends to this queue. If
//! the queue is full, the line is dropped and counted.

use std::{
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Bytes that may wait to be written.
const MAX_QUEUED_BYTES: usize = 1 << 20;

/// Bytes of the queue that only warnings and errors may use, so that a flood of other lines does not hide them.
const BYTES_FOR_WARNINGS: usize = 128 << 10;

/// Importance of a line, which limits the part of the queue that it may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Importance {
    /// Information, and every lower level.
    Usual,
    /// Warnings and errors.
    Warning,
    /// The count of dropped lines. One is queued at a time.
    DropNotice,
}

/// A progress bar: the number of finished loads, and of all loads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bar {
    pub total: u64,
    pub done: u64,
    /// The version that was loaded last.
    pub latest: String,
}

/// Lines that wait to be written.
#[derive(Debug, Default)]
pub(super) struct LogQueue {
    state: Mutex<QueueState>,
    pushed: Condvar,
    written: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    lines: Vec<u8>,
    bar: Option<Bar>,
    bar_changed: bool,
    /// Bytes that were ever queued, taken by the log thread, and written.
    queued: u64,
    taken: u64,
    written: u64,
    dropped: u64,
    /// Dropped lines that no notice has counted yet.
    unnoticed: u64,
}

/// Lines and progress bar that the log thread writes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LineBatch {
    pub lines: Vec<u8>,
    pub bar: Option<Bar>,
    /// Lines that were dropped before this batch was taken.
    pub dropped: u64,
}

impl LogQueue {
    /// Appends a line, or drops and counts it where there is no room.
    pub(super) fn push(&self, line: &[u8], importance: Importance) {
        let limit = match importance {
            Importance::Usual => MAX_QUEUED_BYTES - BYTES_FOR_WARNINGS,
            Importance::Warning => MAX_QUEUED_BYTES,
            Importance::DropNotice => usize::MAX,
        };
        let mut state = self.lock();
        if state.lines.len().saturating_add(line.len()) > limit {
            state.dropped += 1;
            state.unnoticed += 1;
            return;
        }
        state.lines.extend_from_slice(line);
        state.queued += line.len() as u64;
        drop(state);
        self.pushed.notify_one();
    }

    /// Replaces the progress bar; `None` removes it.
    pub(super) fn update_bar(&self, update: impl FnOnce(Option<Bar>) -> Option<Bar>) {
        let mut state = self.lock();
        state.bar = update(state.bar.take());
        state.bar_changed = true;
        drop(state);
        self.pushed.notify_one();
    }

    /// Waits for something to write. The batch counts as written once the next call begins.
    pub(super) fn take(&self) -> LineBatch {
        let mut state = self.lock();
        state.written = state.taken;
        self.written.notify_all();
        while state.lines.is_empty() && !state.bar_changed {
            state = self.pushed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.taken = state.queued;
        state.bar_changed = false;
        LineBatch {
            lines: mem::take(&mut state.lines),
            bar: state.bar.clone(),
            dropped: mem::take(&mut state.unnoticed),
        }
    }

    /// Counts lines that could not be written.
    pub(super) fn lose(&self, lines: u64) {
        self.lock().dropped += lines;
    }

    /// Lines that were dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Waits until all bytes queued now have been written. False if that takes longer than the limit.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut state = self.lock();
        let target = state.queued;
        while state.written < target {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            (state, _) = self.written.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        // No line may be lost because a thread panicked while it logged.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_drops_lines_beyond_its_limit() {
        let queue = LogQueue::default();
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        (0..2048).for_each(|_| queue.push(&line, Importance::Usual));
        let usual = (MAX_QUEUED_BYTES - BYTES_FOR_WARNINGS) / line.len();
        assert_eq!(queue.dropped(), 2048 - usual as u64);
        (0..2048).for_each(|_| queue.push(&line, Importance::Warning));
        let both = (MAX_QUEUED_BYTES / line.len()) as u64;
        assert_eq!(queue.dropped(), 4096 - both);
        queue.push(&line, Importance::DropNotice);
        let batch = queue.take();
        assert_eq!((batch.lines.len(), batch.dropped), (MAX_QUEUED_BYTES + line.len(), 4096 - both));
        // Lines that one notice has counted are not counted in the next.
        queue.push(&line, Importance::Usual);
        assert_eq!(queue.take().dropped, 0);
        assert_eq!(queue.dropped(), 4096 - both);
    }

    #[test]
    fn flush_waits_for_lines_being_written() {
        let queue = LogQueue::default();
        assert!(queue.flush(Duration::ZERO));
        queue.push(b"line\n", Importance::Usual);
        assert!(!queue.flush(Duration::ZERO));
        assert_eq!(queue.take().lines, b"line\n");
        assert!(!queue.flush(Duration::from_millis(1)), "it is being written");
        queue.push(b"next\n", Importance::Usual);
        queue.take();
        queue.update_bar(|_| None);
        queue.take();
        assert!(queue.flush(Duration::ZERO));
    }

    #[test]
    fn progress_bars_are_replaced() {
        let queue = LogQueue::default();
        queue.update_bar(|_| Some(Bar { total: 2, ..Bar::default() }));
        queue.update_bar(|bar| bar.map(|bar| Bar { done: bar.done + 1, latest: "m 1".into(), ..bar }));
        let bar = Bar { total: 2, done: 1, latest: "m 1".into() };
        assert_eq!(queue.take(), LineBatch { lines: Vec::new(), bar: Some(bar), dropped: 0 });
        queue.update_bar(|_| None);
        assert_eq!(queue.take().bar, None);
    }
}
