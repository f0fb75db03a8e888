//! A line of the access log: one JSON object. Whatever clients send, it stays one line, and of bounded length.

use std::{io::Write, time::Duration};

use super::{Noted, Protocol};
use crate::{api::cut, clock};

/// Bytes of an error's message at most.
const LONGEST_ERROR: usize = 512;

/// How a request ended.
pub(super) struct End {
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes: usize,
    /// From when it came.
    pub took: Duration,
    /// Failed requests before it that were not told.
    pub left_out: u64,
}

/// Writes the line of a request.
pub(super) fn write(line: &mut Vec<u8>, noted: &Noted, end: &End) {
    let began = clock::now().checked_sub(end.took).map_or_else(clock::now, clock::clamp);
    let protocol = match noted.protocol {
        Protocol::Http => "http",
        Protocol::Grpc => "grpc",
    };
    let mut fields = Fields(line);
    // Writing into memory can't fail.
    let _ = write!(fields.0, "{{\"time\":\"{}\"", humantime::format_rfc3339_micros(began));
    fields.word("protocol", protocol);
    let _ = write!(fields.0, ",\"client\":\"{}\"", noted.client);
    fields.given("request_id", noted.request_id.as_deref().unwrap_or_default());
    fields.given("message_id", &noted.message_id);
    fields.given("trace_id", noted.trace_id.as_deref().unwrap_or_default());
    fields.given("model", &noted.model);
    if let Some((version, reason)) = noted.routed {
        fields.number("version", version);
        fields.word("reason", reason.label());
    }
    fields.word("code", noted.failed.as_ref().map_or("ok", |error| error.code().label()));
    fields.number("status", end.status.into());
    if let Some(error) = &noted.failed {
        fields.text("error", &cut(error.message(), LONGEST_ERROR));
    }
    fields.number("bytes_in", noted.bytes as u64);
    fields.number("bytes_out", end.bytes as u64);
    if let Some(timing) = &noted.timing {
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
    use crate::{
        batcher::Timing,
        error::{Code, Error},
        traffic::Reason,
    };
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::time::Instant;

    fn noted(model: &str, message_id: &str, request_id: &str, failed: Option<Error>) -> Noted {
        Noted {
            log: None,
            protocol: Protocol::Http,
            client: "127.0.0.1:4".parse().unwrap(),
            arrived: Instant::now(),
            request_id: Some(request_id.into()),
            trace_id: None,
            asks_for_timing: false,
            model: model.into(),
            message_id: message_id.into(),
            bytes: 5,
            routed: Some((3, Reason::Weighted)),
            timing: Some(Timing { rows: 1, batch_rows: 2, run: Duration::from_nanos(1500), ..Timing::default() }),
            failed,
            took: None,
        }
    }

    #[test]
    fn a_line_says_all_there_is() {
        let mut line = Vec::new();
        let end = End { status: 200, bytes: 7, took: Duration::from_millis(2500), left_out: 0 };
        write(&mut line, &noted("m", "", "r", None), &end);
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
        fn whatever_clients_send_it_is_one_line(texts in [any::<String>(), any::<String>(), any::<String>(), any::<String>()]) {
            let [model, message, request, error] = &texts;
            let noted = noted(model, message, request, Some(Error::new(Code::Internal, error.clone())));
            let mut line = Vec::new();
            write(&mut line, &noted, &End { status: 500, bytes: 0, took: Duration::ZERO, left_out: 9 });
            prop_assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
            let read: Value = serde_json::from_slice(&line).unwrap();
            prop_assert_eq!(&read["error"], &json!(cut(error, LONGEST_ERROR)));
            prop_assert_eq!(read["model"].as_str().unwrap_or_default(), model);
            prop_assert_eq!(&read["errors_left_out"], &json!(9));
        }
    }
}
