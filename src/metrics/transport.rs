use metrics::{Counter, Gauge};

/// What is counted of connections and of what they carry.
#[derive(Clone)]
pub struct TransportMetrics {
    /// Connections that are open.
    pub connections: Gauge,
    /// Connections that were closed at once because there were as many as there may be.
    pub refused: Counter,
    /// Bytes that are held for clients.
    pub request_bytes: Gauge,
    /// Bytes that may be held for them.
    pub request_bytes_limit: Gauge,
    closed: [Counter; Closed::ALL.len()],
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
}

impl Closed {
    const ALL: [Closed; 3] = [Closed::Headers, Closed::Idle, Closed::Unread];

    /// Value of the metric label `reason`.
    pub fn label(self) -> &'static str {
        match self {
            Closed::Headers => "headers",
            Closed::Idle => "idle",
            Closed::Unread => "unread",
        }
    }
}

impl TransportMetrics {
    /// Described to the recorder that is in scope.
    pub(super) fn new() -> Self {
        metrics::describe_gauge!("onnxd_connections", "Connections that are open, but for those of scrapers.");
        metrics::describe_counter!(
            "onnxd_connections_refused_total",
            "Connections that were closed at once because there were as many as there may be."
        );
        metrics::describe_counter!(
            "onnxd_connections_closed_total",
            "Connections that were closed because the client did not go on in time, by reason."
        );
        metrics::describe_gauge!(
            "onnxd_request_bytes_in_flight",
            "Bytes held of requests, from their first byte until they are answered, and of answers until they are written."
        );
        metrics::describe_gauge!("onnxd_request_bytes_budget", "Bytes that may be held of requests at once.");
        let closed = |reason: Closed| metrics::counter!("onnxd_connections_closed_total", "reason" => reason.label());
        TransportMetrics {
            connections: metrics::gauge!("onnxd_connections"),
            refused: metrics::counter!("onnxd_connections_refused_total"),
            request_bytes: metrics::gauge!("onnxd_request_bytes_in_flight"),
            request_bytes_limit: metrics::gauge!("onnxd_request_bytes_budget"),
            closed: Closed::ALL.map(closed),
        }
    }

    /// A connection was closed.
    pub fn closed(&self, why: Closed) {
        self.closed[why as usize].increment(1);
    }
}
