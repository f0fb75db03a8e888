//! Limits of one HTTP connection: sizes, streams, timeouts.

use std::time::Duration;

/// Limits of one HTTP connection.
#[derive(Debug, Clone)]
pub(super) struct HttpLimits {
    /// Streams that may be open at once. Batches form out of their requests.
    pub streams: u32,
    pub header_bytes: usize,
    pub headers: usize,
    pub uri_bytes: usize,
    pub header_timeout: Duration,
    pub idle_timeout: Duration,
    pub write_timeout: Duration,
    pub ping_interval: Duration,
}
