//! A clock that costs one load to read, and is about a tenth of a second late.
//!
//! Each request notes when its connection became idle, and its answer has a date. Milliseconds are precise enough for both, and
//! cheaper.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Milliseconds since the first update.
static NOW: AtomicU64 = AtomicU64::new(0);

/// When the clock was first asked for.
static START: OnceLock<Instant> = OnceLock::new();

/// The present as an instant.
pub fn instant() -> Instant {
    *START.get_or_init(Instant::now) + now()
}

/// Time since the clock was first updated.
pub fn now() -> Duration {
    Duration::from_millis(NOW.load(Relaxed))
}

/// Brings the clock up to date. The I/O threads do so ten times a second.
pub fn update() {
    let elapsed = START.get_or_init(Instant::now).elapsed();
    NOW.fetch_max(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX), Relaxed);
}
