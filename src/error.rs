//! The one error type of the server, with its translations side by side so that they can't drift apart.

mod failure;
mod lost;

pub use failure::Failure;
pub use lost::Lost;

use std::borrow::Cow;

/// Kind of a failure. The client's faults are 4xx, the server's 5xx.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// The request can't be right, whatever the server's state.
    InvalidArgument,
    /// There is no such model or version.
    NotFound,
    /// The server lacks room or time for the request. Over HTTP 429 may succeed later, 413 may not.
    ResourceExhausted,
    /// The request's own deadline passed before it was answered.
    DeadlineExceeded,
    /// The client went away or cancelled.
    Cancelled,
    /// The protocol knows this, this server does not.
    Unimplemented,
    /// Nothing can answer now: the version is loading, failed or going away.
    Unavailable,
    /// The model's run failed, or the server has a defect.
    Internal,
    /// The call can't be carried out as things are; they have to be changed first. Admin calls only.
    FailedPrecondition,
    /// Somebody else was faster: what the call was based on has changed. Admin calls only.
    Aborted,
    /// The caller does not say who it is, or not so that it can be believed. Admin calls only.
    Unauthenticated,
    /// The model's run failed, and its inputs or the model may be to blame. The batcher decides which before a client sees it.
    RunFailed,
}

impl Code {
    /// The codes of inferences, in the order of the declaration (so that `code as usize` is its index here).
    pub const OF_INFERENCES: [Code; 8] = [
        Code::InvalidArgument,
        Code::NotFound,
        Code::ResourceExhausted,
        Code::DeadlineExceeded,
        Code::Cancelled,
        Code::Unimplemented,
        Code::Unavailable,
        Code::Internal,
    ];

    /// gRPC status code (google.rpc.Code).
    pub fn grpc(self) -> i32 {
        self.row().0
    }

    /// HTTP status code. 499 is what proxies log for a client that closed the request; no client sees it.
    pub fn http(self) -> u16 {
        self.row().1
    }

    /// Value of the metric label `code`.
    pub fn label(self) -> &'static str {
        self.row().2
    }

    fn row(self) -> (i32, u16, &'static str) {
        match self {
            Code::InvalidArgument => (3, 400, "invalid_argument"),
            Code::NotFound => (5, 404, "not_found"),
            Code::ResourceExhausted => (8, 429, "resource_exhausted"),
            Code::DeadlineExceeded => (4, 504, "deadline_exceeded"),
            Code::Cancelled => (1, 499, "cancelled"),
            Code::Unimplemented => (12, 501, "unimplemented"),
            Code::Unavailable => (14, 503, "unavailable"),
            Code::Internal | Code::RunFailed => (13, 500, "internal"),
            Code::FailedPrecondition => (9, 409, "failed_precondition"),
            Code::Aborted => (10, 412, "aborted"),
            Code::Unauthenticated => (16, 401, "unauthenticated"),
        }
    }
}

/// A failure with a message for the person who has to act on it: it names the model, the tensor, the file or the field,
/// what was expected and what came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    code: Code,
    message: Cow<'static, str>,
    retry_after: u32,
    blames_device: bool,
}

impl Error {
    /// A failure of the given kind.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Error { code, message: message.into(), retry_after: 1, blames_device: false }
    }

    /// A request that can't be right.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Code::InvalidArgument, message)
    }

    /// A failed run or a defect of the server.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Code::Internal, message)
    }

    /// The same, which may have passed after so many seconds.
    pub fn retry_after(self, seconds: u32) -> Self {
        Error { retry_after: seconds, ..self }
    }

    /// The same, for which the device that the model ran on is to blame, or its lack of memory.
    pub fn blame_device(self) -> Self {
        Error { blames_device: true, ..self }
    }

    /// True if the device that the model ran on is to blame. It decides where a model is loaded; clients see the code.
    pub fn blames_device(&self) -> bool {
        self.blames_device
    }

    /// Seconds until the same request may succeed; at least 1, which is the least that HTTP can say.
    pub fn seconds_to_retry(&self) -> u32 {
        self.retry_after.max(1)
    }

    /// Kind of the failure.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// A result with the server's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;
