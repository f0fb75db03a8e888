//! A record of the access log: one JSON object on one line of bounded length, whatever clients send.

use std::{io::Write, net::SocketAddr, time::Duration};

use crate::{
    api::text::cut,
    batcher::Timing,
    clock,
    error::{Code, Error},
    traffic::Reason,
};

/// Bytes of an error's message at most.
const MAX_ERROR_BYTES: usize = 512;

/// The protocol that a request came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Grpc,
}

impl Protocol {
    /// The status of an error, as records have it.
    pub(super) fn status(self, code: Code) -> u16 {
        match self {
            Protocol::Http => code.http(),
            Protocol::Grpc => grpc_status(code),
        }
    }
}

/// The status of a code over gRPC, as records have it.
pub(in crate::api) fn grpc_status(code: Code) -> u16 {
    u16::try_from(code.grpc()).unwrap_or_default()
}

/// A request as the access log has it.
pub(super) struct AccessRecord {
    pub protocol: Protocol,
    pub client: SocketAddr,
    pub request_id: Option<Box<str>>,
    pub trace_id: Option<Box<str>>,
    pub model: String,
    /// The id in the message.
    pub message_id: String,
    /// Bytes of the message.
    pub bytes: usize,
    /// The version that was chosen, and why.
    pub routed: Option<(u64, Reason)>,
    pub timing: Option<Timing>,
    pub failed: Option<Error>,
}

/// The end of a request.
pub(super) struct End {
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes: usize,
    /// From the request's arrival.
    pub took: Duration,
    /// Failed requests before it that have no line.
    pub left_out: u64,
}

/// Writes the line of a request.
pub(super) fn write(line: &mut Vec<u8>, record: &AccessRecord, end: &End) {
    let began = clock::now().checked_sub(end.took).map_or_else(clock::now, clock::clamp);
    let protocol = match record.protocol {
        Protocol::Http => "http",
        Protocol::Grpc => "grpc",
    };
    let mut fields = Fields(line);
    // Writing into memory can't fail.
    let _ = write!(fields.0, "{{\"time\":\"{}\"", humantime::format_rfc3339_micros(began));
    fields.word("protocol", protocol);
    let _ = write!(fields.0, ",\"client\":\"{}\"", record.client);
    fields.given("request_id", record.request_id.as_deref().unwrap_or_default());
    fields.given("message_id", &record.message_id);
    fields.given("trace_id", record.trace_id.as_deref().unwrap_or_default());
    fields.given("model", &record.model);
    if let Some((version, reason)) = record.routed {
        fields.number("version", version);
        fields.word("reason", reason.label());
    }
    fields.word("code", record.failed.as_ref().map_or("ok", |error| error.code().label()));
    fields.number("status", end.status.into());
    if let Some(error) = &record.failed {
        fields.text("error", &cut(error.message(), MAX_ERROR_BYTES));
    }
    fields.number("bytes_in", record.bytes as u64);
    fields.number("bytes_out", end.bytes as u64);
    if let Some(timing) = &record.timing {
        fields.number("rows", timing.rows as u64);
        fields.number("batch_rows", timing.batch_rows as u64);
        fields.seconds("queue_seconds", timing.queue);
        fields.seconds("input_seconds", timing.input);
        fields.seconds("run_seconds", timing.run);
        fields.seconds("output_seconds", timing.output);
    }
    fields.seconds("duration_seconds", end.took);
    if end.left_out > 0 {
        fields.number("errors_left_out", end.left_out);
    }
    line.extend_from_slice(b"}\n");
}

/// The fields of an object, behind the first.
struct Fields<'a>(&'a mut Vec<u8>);

impl Fields<'_> {
    fn name(&mut self, name: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    /// A word of our own, which needs no escapes.
    fn word(&mut self, name: &str, word: &str) {
        self.name(name);
        self.0.push(b'"');
        self.0.extend_from_slice(word.as_bytes());
        self.0.push(b'"');
    }

    fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        // Neither can this.
        let _ = serde_json::to_writer(&mut *self.0, text);
    }

    /// A text that may not be there.
    fn given(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            self.text(name, text);
        }
    }

    fn number(&mut self, name: &str, number: u64) {
        self.name(name);
        self.0.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    fn seconds(&mut self, name: &str, duration: Duration) {
        self.name(name);
        self.0.extend_from_slice(itoa::Buffer::new().format(duration.as_secs()).as_bytes());
        let mut fraction = *b".000000000";
        let mut rest = duration.subsec_nanos();
        for digit in fraction[1..].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        self.0.extend_from_slice(&fraction);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn record(model: &str, message_id: &str, request_id: &str, failed: Option<Error>) -> AccessRecord {
        AccessRecord {
            protocol: Protocol::Http,
            client: "127.0.0.1:4".parse().unwrap(),
            request_id: Some(request_id.into()),
            trace_id: None,
            model: model.into(),
            message_id: message_id.into(),
            bytes: 5,
            routed: Some((3, Reason::Weighted)),
            timing: Some(Timing { rows: 1, batch_rows: 2, run: Duration::from_nanos(1500), ..Timing::default() }),
            failed,
        }
    }

    #[test]
    fn line_has_every_field() {
        let mut line = Vec::new();
        let end = End { status: 200, bytes: 7, took: Duration::from_millis(2500), left_out: 0 };
        write(&mut line, &record("m", "", "r", None), &end);
        let mut read: Value = serde_json::from_slice(&line).unwrap();
        let time = read["time"].take();
        assert!(humantime::parse_rfc3339(time.as_str().unwrap()).unwrap() < clock::now(), "{time}");
        let expected = json!({
            "time": null, "protocol": "http", "client": "127.0.0.1:4", "request_id": "r", "model": "m", "version": 3,
            "reason": "weighted", "code": "ok", "status": 200, "bytes_in": 5, "bytes_out": 7, "rows": 1, "batch_rows": 2,
            "queue_seconds": 0.0, "input_seconds": 0.0, "run_seconds": 1.5e-6, "output_seconds": 0.0, "duration_seconds": 2.5,
        });
        assert_eq!(read, expected);
    }

    proptest! {
        #[test]
        fn record_stays_one_line_for_any_text(texts in [any::<String>(), any::<String>(), any::<String>(), any::<String>()]) {
            let [model, message, request, error] = &texts;
            let record = record(model, message, request, Some(Error::new(Code::Internal, error.clone())));
            let mut line = Vec::new();
            write(&mut line, &record, &End { status: 500, bytes: 0, took: Duration::ZERO, left_out: 9 });
            prop_assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
            let read: Value = serde_json::from_slice(&line).unwrap();
            prop_assert_eq!(&read["error"], &json!(cut(error, MAX_ERROR_BYTES)));
            prop_assert_eq!(read["model"].as_str().unwrap_or_default(), model);
            prop_assert_eq!(&read["errors_left_out"], &json!(9));
        }
    }
}
