//! Request ids, server timing and access-log records.
//!
//! Most requests want none of it: then there is nothing to keep, and no clock is read.

mod access_log;
mod ids;
mod record;
mod request_record;
mod trace;

pub use access_log::{AccessLog, Lines};
pub(crate) use record::Protocol;
pub(super) use record::grpc_status;
pub(crate) use request_record::RequestRecord;
pub(crate) use trace::{ResponseTrace, TraceHeaders};
