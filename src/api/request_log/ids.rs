//! Request ids and trace ids.

use crate::clock;

/// Bytes of a request's id at most: four times as many as a UUID has.
const MAX_ID_BYTES: usize = 128;

/// The id that a client gives: 1 to 128 visible characters of ASCII. Any other is none, so that it can be put into a header, a
/// log and a URL without a second thought.
pub(super) fn request_id(value: &[u8]) -> Option<&str> {
    let fits = (1..=MAX_ID_BYTES).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
    str::from_utf8(value).ok().filter(|_| fits)
}

/// An id that no other request has: a UUID of version 7, so that ids are in the order of time.
pub(super) fn new_request_id() -> Box<str> {
    uuid(clock::since_epoch().as_millis(), fastrand::u16(..), fastrand::u64(..))
}

/// A UUID of version 7 (RFC 9562).
fn uuid(milliseconds: u128, first: u16, second: u64) -> Box<str> {
    let (first, second) = (u128::from(first & 0x0fff | 0x7000), u128::from(second >> 2 | 1 << 63));
    let bytes = (milliseconds << 80 | first << 64 | second).to_be_bytes();
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    text.into()
}

/// The id of the trace in a `traceparent` (W3C Trace Context); `None` where it is not as the standard has it.
pub(super) fn trace_id(value: &[u8]) -> Option<&str> {
    const LENGTH: usize = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".len();
    let text = str::from_utf8(value).ok()?;
    let (known, rest) = text.split_at_checked(LENGTH)?;
    let mut fields = known.split('-');
    let mut hex = |length: usize| {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        fields.next().filter(|field| field.len() == length && field.bytes().all(is_hex))
    };
    let (version, trace, parent, _flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    // Later versions may say more behind it.
    let ends = rest.is_empty() || version != "00" && rest.starts_with('-');
    let is_zero = |field: &str| field.bytes().all(|byte| byte == b'0');
    (ends && version != "ff" && !is_zero(trace) && !is_zero(parent)).then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn request_id_accepts_bounded_printable_ascii() {
        let longest = "x".repeat(MAX_ID_BYTES);
        for id in ["1", "a-b_c:d/e=f", "{\"quoted\"}", &longest] {
            assert_eq!(request_id(id.as_bytes()), Some(id));
        }
        for wrong in ["", "a b", "a\tb", "a\nb", "\u{e4}", "\u{7f}", &format!("{longest}x")] {
            assert_eq!(request_id(wrong.as_bytes()), None, "{wrong:?}");
        }
        assert_eq!(request_id(b"\xff"), None);
    }

    #[test]
    fn generated_request_ids_are_unique_uuids() {
        assert_eq!(&*uuid(0x0123_4567_89ab, 0xffff, u64::MAX), "01234567-89ab-7fff-bfff-ffffffffffff");
        assert_eq!(&*uuid(u128::MAX, 0, 0), "ffffffff-ffff-7000-8000-000000000000");
        let made: BTreeSet<_> = (0..10_000).map(|_| new_request_id()).collect();
        assert_eq!(made.len(), 10_000);
        assert!(made.iter().all(|id| request_id(id.as_bytes()).is_some()));
    }

    #[test]
    fn trace_id_parses_traceparent_headers() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        for right in [
            format!("00-{trace}-00f067aa0ba902b7-01"),
            format!("01-{trace}-00f067aa0ba902b7-ff"),
            format!("01-{trace}-00f067aa0ba902b7-00-more"),
        ] {
            assert_eq!(trace_id(right.as_bytes()), Some(trace), "{right}");
        }
        for wrong in [
            String::new(),
            format!("00-{trace}-00f067aa0ba902b7"),
            format!("00-{trace}-00f067aa0ba902b7-01-more"),
            format!("01-{trace}-00f067aa0ba902b7-01more"),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{trace}-00f067aa0ba902b7-\"x"),
            format!("00--{trace}00f067aa0ba902b7-01"),
            "\u{20ac}".repeat(20),
        ] {
            assert_eq!(trace_id(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
