//! Return of freed memory to the system, at a bounded rate.

use std::time::{Duration, Instant};

/// Freed memory, in bytes, that is returned at once. To do so holds up every thread that allocates meanwhile.
const TRIM_AT_ONCE_BYTES: u64 = 16 << 20;

/// Delay of the return of less.
const TRIM_DELAY: Duration = Duration::from_secs(10);

/// Memory that was freed and not returned to the system yet.
#[derive(Debug, Default)]
pub(super) struct MemoryTrim {
    freed_bytes: u64,
    due_at: Option<Instant>,
}

impl MemoryTrim {
    /// Notes that memory was freed.
    pub(super) fn freed(&mut self, bytes: u64, now: Instant) {
        self.freed_bytes += bytes;
        self.due_at.get_or_insert(now + TRIM_DELAY);
    }

    /// The time when memory is to be returned, if any is.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.due_at
    }

    /// True if memory is to be returned now; it counts as returned then.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.freed_bytes >= TRIM_AT_ONCE_BYTES || self.due_at.is_some_and(|at| at <= now);
        if is_due {
            *self = MemoryTrim::default();
        }
        is_due
    }
}
