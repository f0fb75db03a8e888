//! The record of a request that is under way: begun when its headers have come, ended with its response.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    access_log::AccessLog,
    ids,
    record::{self, AccessRecord, Protocol},
    trace::{ResponseTrace, TraceHeaders, server_timing},
};
use crate::{
    api::text::cut,
    batcher::Timing,
    error::{Code, Error},
    traffic::Reason,
};

/// Bytes of a name that a client gives, as far as they are kept.
const MAX_NAME_BYTES: usize = 256;

/// The record of a request, where its client or the access log wants one. Dropped before its end, the request was cancelled.
pub(crate) struct RequestRecord(Option<Box<Recorded>>);

struct Recorded {
    log: Option<Arc<AccessLog>>,
    arrived: Instant,
    timing_wanted: bool,
    /// From the request's arrival to its end, once it has been read.
    took: Option<Duration>,
    record: AccessRecord,
}

impl RequestRecord {
    /// The record of a request that came at `arrived`.
    pub(crate) fn begin(
        log: Option<&Arc<AccessLog>>,
        protocol: Protocol,
        client: SocketAddr,
        trace: TraceHeaders<'_>,
        arrived: Instant,
    ) -> Self {
        let given = trace.request_id.and_then(ids::request_id);
        let timing_wanted = trace.wants_timing();
        if log.is_none() && given.is_none() && !timing_wanted {
            return RequestRecord(None);
        }
        let request_id = match (given, log) {
            (Some(given), _) => Some(given.into()),
            (None, Some(_)) => Some(ids::new_request_id()),
            (None, None) => None,
        };
        RequestRecord(Some(Box::new(Recorded {
            log: log.cloned(),
            arrived,
            timing_wanted,
            took: None,
            record: AccessRecord {
                protocol,
                client,
                request_id,
                trace_id: log.and(trace.traceparent).and_then(ids::trace_id).map(Into::into),
                model: String::new(),
                message_id: String::new(),
                bytes: 0,
                routed: None,
                timing: None,
                failed: None,
            },
        })))
    }

    /// The record, where the access log wants it.
    fn logged(&mut self) -> Option<&mut AccessRecord> {
        self.0.as_deref_mut().filter(|recorded| recorded.log.is_some()).map(|recorded| &mut recorded.record)
    }

    /// Notes the model and the id in the message, and the message's bytes.
    pub(crate) fn note_message(&mut self, model: &str, id: &str, bytes: usize) {
        if let Some(record) = self.logged() {
            if record.model.is_empty() {
                record.model = cut(model, MAX_NAME_BYTES);
            }
            record.message_id = cut(id, MAX_NAME_BYTES);
            record.bytes = bytes;
        }
    }

    /// Notes the version that is to answer, and why it is that one.
    pub(crate) fn note_routed(&mut self, version: u64, reason: Reason) {
        if let Some(record) = self.logged() {
            record.routed = Some((version, reason));
        }
    }

    /// Notes the times of the run.
    pub(crate) fn note_run(&mut self, timing: Timing) {
        if let Some(recorded) = &mut self.0 {
            recorded.record.timing = Some(timing);
        }
    }

    /// Notes the error that the request is answered with.
    pub(crate) fn note_error(&mut self, error: &Error) {
        if let Some(record) = self.logged() {
            record.failed = Some(error.clone());
        }
    }

    /// Ends the record of a request that is answered, with this status of its protocol and a body of so many bytes.
    pub(crate) fn end(self, status: u16, bytes: usize) -> Option<ResponseTrace> {
        let mut recorded = self.0?;
        recorded.end(status, bytes);
        let took = recorded.timing_wanted.then(|| recorded.took());
        let server_timing = took.map(|took| server_timing(recorded.record.timing.as_ref(), took));
        Some(ResponseTrace { request_id: recorded.record.request_id.take(), server_timing })
    }
}

impl Recorded {
    /// Writes the line of the access log, if there is to be one.
    fn end(&mut self, status: u16, bytes: usize) {
        let log = self.log.take();
        if let Some(log) = log
            && let Some(left_out) = log.takes(self.record.failed.as_ref().map(Error::code))
        {
            let end = record::End { status, bytes, took: self.took(), left_out };
            log.note(&|line| record::write(line, &self.record, &end));
        }
    }

    /// From the request's arrival to its end.
    fn took(&mut self) -> Duration {
        let arrived = self.arrived;
        *self.took.get_or_insert_with(|| arrived.elapsed())
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        if self.log.is_none() {
            // It has ended, or is not logged.
            return;
        }
        self.record.failed = Some(Error::new(Code::Cancelled, "the client went before it was answered"));
        let status = self.record.protocol.status(Code::Cancelled);
        self.end(status, 0);
    }
}
