//! Parsers of options' values.

use std::time::Duration;
use tracing_subscriber::EnvFilter;

use crate::config::{ByteSize, Device, QueueTime};

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("expected a duration such as 500ms or 1m 30s: {error}"))
}

/// Parses an interval between polls.
pub(super) fn pause(text: &str) -> Result<Duration, String> {
    let pause = duration(text)?;
    let message = "it must be longer than 0s: looking without a pause takes a CPU";
    if pause.is_zero() { Err(message.into()) } else { Ok(pause) }
}

/// Parses the time for which a thread busy-polls.
pub(super) fn busy_poll(text: &str) -> Result<Duration, String> {
    let look = duration(text)?;
    let message = "it must be at most 1ms: a thread that looks takes a CPU";
    if look > Duration::from_millis(1) { Err(message.into()) } else { Ok(look) }
}

/// Parses a timeout.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    let timeout = duration(text)?;
    if timeout.is_zero() { Err("it must be longer than 0s".into()) } else { Ok(timeout) }
}

pub(super) fn queue_time(text: &str) -> Result<QueueTime, String> {
    text.parse().map_err(|expected| format!("expected {expected}"))
}

/// Parses the name of a file or folder, without a path.
pub(super) fn file_name(text: &str) -> Result<String, String> {
    let is_name = !text.is_empty() && !text.contains('/') && text != "." && text != "..";
    if is_name { Ok(text.to_owned()) } else { Err("expected the name of a file, without a folder".into()) }
}

pub(super) fn size(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse()?;
    if size.0 == 0 { Err("it must be at least 1 byte, got 0".into()) } else { Ok(size) }
}

pub(super) fn device(text: &str) -> Result<Device, String> {
    text.parse().map_err(|expected| format!("expected {expected}"))
}

pub(super) fn count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&count| count > 0).ok_or_else(|| "expected an integer of at least 1".into())
}

pub(super) fn log_level(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}
