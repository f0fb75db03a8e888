//! The `Date` header, formatted once a second on each thread. It is late by as much as the coarse clock.

use axum::http::HeaderValue;
use std::{
    cell::RefCell,
    io::Write,
    time::{Duration, UNIX_EPOCH},
};

use crate::clock;

/// A date as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
type Date = [u8; 29];

struct Cached {
    /// Time of the coarse clock when the wall clock was read.
    read: Duration,
    second: u64,
    date: Date,
    header: HeaderValue,
}

thread_local! {
    static CACHED: RefCell<Cached> = const {
        RefCell::new(Cached { read: Duration::MAX, second: u64::MAX, date: [b' '; 29], header: HeaderValue::from_static("") })
    };
}

/// The present date.
pub(crate) fn date() -> Date {
    with_current(|cached| cached.date)
}

/// The present date as the value of a header.
pub(crate) fn date_header() -> HeaderValue {
    with_current(|cached| cached.header.clone())
}

fn with_current<T>(take: impl FnOnce(&Cached) -> T) -> T {
    CACHED.with_borrow_mut(|cached| {
        let coarse = clock::coarse::now();
        if cached.read == coarse {
            return take(cached);
        }
        let now = clock::since_epoch();
        cached.read = coarse;
        if cached.second != now.as_secs() {
            cached.second = now.as_secs();
            // The clock is clamped to years that have this many characters.
            let _ = write!(&mut cached.date[..], "{}", httpdate::HttpDate::from(UNIX_EPOCH + now));
            if let Ok(header) = HeaderValue::from_bytes(&cached.date) {
                cached.header = header;
            }
        }
        take(cached)
    })
}
