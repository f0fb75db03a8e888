//! What clients may do at most, and what they are told where they do more.

use std::{sync::Arc, time::Duration};

use super::budget::Budget;
use crate::error::{Code, Error};

/// What clients may do at most, over every protocol.
#[derive(Debug)]
pub struct Limits {
    /// Bytes of a message over gRPC, unpacked.
    pub grpc_message: usize,
    /// Bytes of a body over HTTP, unpacked.
    pub http_body: usize,
    /// Bytes of the JSON in it.
    pub http_json: usize,
    /// How long nothing of a body may come, and how long it may take beyond what `min_rate` gives it.
    pub body_timeout: Duration,
    /// How long an answer may lie unread beyond what `min_rate` gives it.
    pub write_timeout: Duration,
    /// Bytes per second that a client sends and reads at least.
    pub min_rate: usize,
    /// Bytes that are held for clients.
    pub budget: Arc<Budget>,
}

impl Limits {
    /// How long so many bytes may take.
    pub(super) fn patience(&self, timeout: Duration, bytes: usize) -> Duration {
        let extra = Duration::from_secs_f64(bytes as f64 / self.min_rate.max(1) as f64);
        timeout.saturating_add(extra)
    }

    /// Refuses a request for which there is no room now.
    pub(super) fn full(&self) -> Refusal {
        self.budget.refuse();
        let (used, limit) = (self.budget.used(), self.budget.limit());
        Refusal::new(
            Kind::Full,
            format!(
                "there is no room for the request: requests and answers hold {used} of {limit} bytes (--request-memory); try again later"
            ),
        )
    }
}

/// Bytes of one thing, at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub bytes: usize,
    /// What they are bytes of.
    pub what: &'static str,
    /// The option that sets it.
    pub setting: &'static str,
}

impl Limit {
    pub(super) fn exceeded(&self, by: &str) -> Refusal {
        let Limit { bytes, what, setting } = self;
        Refusal::new(Kind::TooLarge, format!("{what} {by} is larger than the limit of {bytes} bytes ({setting})"))
    }
}

/// Why a request does not come as far as being decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is larger than its limit.
    TooLarge,
    /// Its encoding is not known.
    UnknownEncoding,
    /// It is not what its encoding or its framing says.
    Malformed,
    /// It does not come, or too slowly.
    TooSlow,
    /// It ended in the middle.
    CutOff,
    /// There is no room for it at the moment.
    Full,
}

/// A request that does not come as far as being decoded.
#[derive(Debug)]
pub(super) struct Refusal {
    pub kind: Kind,
    pub error: Error,
}

impl Refusal {
    pub(super) fn new(kind: Kind, message: String) -> Self {
        Refusal { kind, error: Error::new(kind.row().0, message) }
    }

    /// The HTTP status, which says more than that of the error's code.
    pub(super) fn http(&self) -> u16 {
        self.kind.row().1
    }
}

impl Kind {
    /// The code, which gRPC and the metrics tell, and the HTTP status.
    fn row(self) -> (Code, u16) {
        match self {
            Kind::TooLarge => (Code::ResourceExhausted, 413),
            Kind::UnknownEncoding => (Code::Unimplemented, 415),
            Kind::Malformed => (Code::InvalidArgument, 400),
            Kind::TooSlow => (Code::DeadlineExceeded, 408),
            Kind::CutOff => (Code::Cancelled, 400),
            Kind::Full => (Code::ResourceExhausted, 429),
        }
    }
}
