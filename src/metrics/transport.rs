use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Counters of connections.
#[derive(Debug, Clone, Default)]
pub struct TransportMetrics(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    open: AtomicU64,
    refused: [AtomicU64; ExceededLimit::ALL.len()],
    closed: [AtomicU64; Closed::ALL.len()],
}

/// Reason why the server closed a connection that its client would have kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The head of a request, or the beginning of HTTP/2, did not come in time.
    Headers,
    /// No request came for the idle timeout.
    Idle,
    /// An answer was not read in time.
    Unread,
    /// The client flooded the connection with HTTP/2 frames.
    Flood,
    /// The connection was idle, and was evicted for another.
    Evicted,
}

impl Closed {
    pub(super) const ALL: [Closed; 5] = [Closed::Headers, Closed::Idle, Closed::Unread, Closed::Flood, Closed::Evicted];

    /// Value of the metric label `reason`.
    pub fn label(self) -> &'static str {
        match self {
            Closed::Headers => "headers",
            Closed::Idle => "idle",
            Closed::Unread => "unread",
            Closed::Flood => "flood",
            Closed::Evicted => "evicted",
        }
    }
}

/// The limit that refused a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExceededLimit {
    /// `--max-connections`, of all clients.
    Total,
    /// `--max-connections-per-client`, of one client.
    Client,
}

impl ExceededLimit {
    pub(super) const ALL: [ExceededLimit; 2] = [ExceededLimit::Total, ExceededLimit::Client];

    /// Value of the metric label `limit`.
    pub fn label(self) -> &'static str {
        match self {
            ExceededLimit::Total => "total",
            ExceededLimit::Client => "client",
        }
    }
}

impl TransportMetrics {
    /// Counts a connection that was opened. [`TransportMetrics::ended`] counts its end.
    pub fn opened(&self) {
        self.0.open.fetch_add(1, Relaxed);
    }

    /// Counts the end of a connection.
    pub fn ended(&self) {
        self.0.open.fetch_sub(1, Relaxed);
    }

    /// Counts a connection that was refused, or admitted for health checks only, because a limit was reached.
    pub fn refused(&self, limit: ExceededLimit) {
        self.0.refused[limit as usize].fetch_add(1, Relaxed);
    }

    /// Counts a connection that the server closed.
    pub fn closed(&self, why: Closed) {
        self.0.closed[why as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn open_now(&self) -> u64 {
        self.0.open.load(Relaxed)
    }

    pub(super) fn all_refused(&self, limit: ExceededLimit) -> u64 {
        self.0.refused[limit as usize].load(Relaxed)
    }

    pub(super) fn all_closed(&self, why: Closed) -> u64 {
        self.0.closed[why as usize].load(Relaxed)
    }
}
