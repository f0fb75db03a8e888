use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// What is counted of connections.
#[derive(Debug, Clone, Default)]
pub struct TransportMetrics(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    open: AtomicU64,
    refused: [AtomicU64; ConnectionLimit::ALL.len()],
    closed: [AtomicU64; Closed::ALL.len()],
}

/// Why a connection was closed that its client would have kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The head of a request, or what HTTP/2 begins with, did not come in time.
    Headers,
    /// Nothing was asked for a while.
    Idle,
    /// An answer was not read in time.
    Unread,
    /// The client flooded the connection with HTTP/2 frames.
    Flood,
    /// The connection was idle, and its place was needed.
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
pub enum ConnectionLimit {
    /// `--max-connections`, of all clients.
    Total,
    /// `--max-connections-per-client`, of one client.
    Client,
}

impl ConnectionLimit {
    pub(super) const ALL: [ConnectionLimit; 2] = [ConnectionLimit::Total, ConnectionLimit::Client];

    /// Value of the metric label `limit`.
    pub fn label(self) -> &'static str {
        match self {
            ConnectionLimit::Total => "total",
            ConnectionLimit::Client => "client",
        }
    }
}

impl TransportMetrics {
    /// A connection was opened, which ends by [`TransportMetrics::ended`].
    pub fn opened(&self) {
        self.0.open.fetch_add(1, Relaxed);
    }

    /// A connection has ended.
    pub fn ended(&self) {
        self.0.open.fetch_sub(1, Relaxed);
    }

    /// A connection was refused, or admitted for health checks only, because there were as many as there may be.
    pub fn refused(&self, limit: ConnectionLimit) {
        self.0.refused[limit as usize].fetch_add(1, Relaxed);
    }

    /// A connection was closed.
    pub fn closed(&self, why: Closed) {
        self.0.closed[why as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn open_now(&self) -> u64 {
        self.0.open.load(Relaxed)
    }

    pub(super) fn all_refused(&self, limit: ConnectionLimit) -> u64 {
        self.0.refused[limit as usize].load(Relaxed)
    }

    pub(super) fn all_closed(&self, why: Closed) -> u64 {
        self.0.closed[why as usize].load(Relaxed)
    }
}
