//! Limits on the requests and answers of clients, and the refusals where they are exceeded.

use std::{sync::Arc, time::Duration};

use super::memory_budget::{Budget, Share};
use crate::error::{Code, Error};

/// Limits on requests and answers, over every protocol.
#[derive(Debug)]
pub struct Limits {
    /// Bytes of a message over gRPC, unpacked.
    pub grpc_message: usize,
    /// Bytes of a body over HTTP, unpacked.
    pub http_body: usize,
    /// Bytes of the JSON in it.
    pub http_json: usize,
    /// Time for which nothing of a body may come, and that it may take beyond what `min_rate` gives it.
    pub body_timeout: Duration,
    /// Time for which an answer may lie unread beyond what `min_rate` gives it.
    pub write_timeout: Duration,
    /// Bytes per second that a client sends and reads at least.
    pub min_rate: usize,
    /// Bytes that are held for clients.
    pub budget: Arc<Budget>,
}

impl Limits {
    /// Time that so many bytes may take.
    pub(in crate::api) fn time_allowed(&self, timeout: Duration, bytes: usize) -> Duration {
        let extra = Duration::from_secs_f64(bytes as f64 / self.min_rate.max(1) as f64);
        timeout.saturating_add(extra)
    }

    /// Refuses a request for which there is no room now.
    pub(crate) fn full(&self) -> Refusal {
        self.budget.refuse();
        let (used, limit) = (self.budget.used(), self.budget.limit());
        Refusal::new(
            RefusalKind::Full,
            format!(
                "there is no room for the request: requests and answers hold {used} of {limit} bytes (--request-memory); try again later"
            ),
        )
    }
}

/// Advice for the client of an answer that is too large.
const SMALLER_ANSWERS: &str = "ask for fewer outputs or rows, or over HTTP for binary outputs (binary_data_output)";

impl Limits {
    /// Counts an answer of so many bytes, encoded, of which `share` may hold some already.
    pub(in crate::api) fn count_answer(&self, share: &mut Share, bytes: usize) -> Result<(), Refusal> {
        share.shrink_to(bytes);
        if share.grow(bytes - share.bytes()) { Ok(()) } else { Err(self.answer_too_large(bytes)) }
    }

    /// Refuses an answer of at least so many bytes, encoded, for which there is no room.
    pub(in crate::api) fn answer_too_large(&self, at_least: usize) -> Refusal {
        self.budget.refuse();
        let (used, limit) = (self.budget.used(), self.budget.limit());
        if at_least > limit {
            return Refusal::new(
                RefusalKind::TooLarge,
                format!(
                    "the answer takes at least {at_least} bytes, more than all requests and answers may hold: {limit} bytes (--request-memory); {SMALLER_ANSWERS}"
                ),
            );
        }
        Refusal::new(
            RefusalKind::Full,
            format!(
                "there is no room for the answer, which takes at least {at_least} bytes: requests and answers hold {used} of {limit} bytes (--request-memory); try again later, or {SMALLER_ANSWERS}"
            ),
        )
    }
}

/// Bytes of one thing, at most.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct ByteLimit {
    pub bytes: usize,
    /// The thing that is limited.
    pub what: &'static str,
    /// The option that sets it.
    pub setting: &'static str,
}

impl ByteLimit {
    pub(in crate::api) fn exceeded(&self, by: &str) -> Refusal {
        let ByteLimit { bytes, what, setting } = self;
        Refusal::new(
            RefusalKind::TooLarge,
            format!("{what} {by} is larger than the limit of {bytes} bytes ({setting})"),
        )
    }
}

/// Reason why a request was refused or failed. It decides the HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusalKind {
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
    /// It failed after it was decoded: the error's code alone decides the status.
    AfterDecoding,
}

/// A request that was refused or failed: its error, and the kind that decides the HTTP status.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub kind: RefusalKind,
    pub error: Error,
}

impl Refusal {
    pub(in crate::api) fn new(kind: RefusalKind, message: String) -> Self {
        Refusal { kind, error: Error::new(kind.row().0, message) }
    }

    /// The HTTP status, which says more than that of the error's code.
    pub(crate) fn http(&self) -> u16 {
        if self.kind == RefusalKind::AfterDecoding { self.error.code().http() } else { self.kind.row().1 }
    }
}

/// A failure of what came as far as being decoded, with the status of its code.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal { kind: RefusalKind::AfterDecoding, error }
    }
}

impl RefusalKind {
    /// The code, for gRPC and the metrics, and the HTTP status.
    fn row(self) -> (Code, u16) {
        match self {
            RefusalKind::TooLarge => (Code::ResourceExhausted, 413),
            RefusalKind::UnknownEncoding => (Code::Unimplemented, 415),
            RefusalKind::Malformed => (Code::InvalidArgument, 400),
            RefusalKind::TooSlow => (Code::DeadlineExceeded, 408),
            RefusalKind::CutOff => (Code::Cancelled, 400),
            RefusalKind::Full => (Code::ResourceExhausted, 429),
            RefusalKind::AfterDecoding => (Code::Internal, 500),
        }
    }
}
