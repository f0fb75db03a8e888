//! The wall clock, clamped to the years that HTTP dates and RFC 3339 can express.
//!
//! The crates that format dates panic or fail outside of those years. A server does not start with such a clock, as the HTTP
//! library would panic too; one that is set later must not end a request.

pub mod coarse;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds from the Unix epoch to the last second of the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;

/// Checks that dates can express the present time.
///
/// # Errors
/// They can't; the message says what to do.
pub fn check() -> Result<(), String> {
    let time = SystemTime::now();
    if time == clamp(time) {
        return Ok(());
    }
    Err("the system's clock is before 1970 or after 9999, which no date of HTTP can express: set the clock".into())
}

/// The present time.
pub fn now() -> SystemTime {
    clamp(SystemTime::now())
}

/// The nearest time from 1970 to 9999.
pub fn clamp(time: SystemTime) -> SystemTime {
    time.clamp(UNIX_EPOCH, UNIX_EPOCH + Duration::from_secs(LAST_SECOND))
}

/// Time since the Unix epoch.
pub fn since_epoch() -> Duration {
    now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clamped_times_can_be_formatted() {
        let day = Duration::from_secs(86_400);
        let last = UNIX_EPOCH + Duration::from_secs(LAST_SECOND);
        for (time, date) in [
            (UNIX_EPOCH - day, "1970-01-01T00:00:00.000Z"),
            (UNIX_EPOCH + day, "1970-01-02T00:00:00.000Z"),
            (last + day, "9999-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(humantime::format_rfc3339_millis(clamp(time)).to_string(), date);
            assert_eq!(httpdate::HttpDate::from(clamp(time)).to_string().len(), 29);
        }
    }
}
