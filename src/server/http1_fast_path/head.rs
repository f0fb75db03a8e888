//! Heads of requests that the fast path knows, read from the bytes of a connection.
//!
//! The fast path accepts a subset of what hyper accepts, with the same meaning. The parser is the one that hyper uses, the end of
//! a request is one Content-Length, and headers are an *allowlist* ([`KnownHeader::of`]). A head with any other header goes to
//! hyper. So no two readers can see two requests in the same bytes, and no header can be bypassed.

use axum::http::Uri;
use std::mem::MaybeUninit;

use crate::{
    api::{
        dialect::oip_http::PathTarget,
        headers::{JSON_LENGTH_NAME, PRIORITY_NAME, REQUEST_ID_NAME, TIMING_WANTED_NAME, TRACEPARENT_NAME},
        inference::RequestHeaders,
        request_log::TraceHeaders,
        transport::Encoding,
    },
    traffic::ROUTING_KEY_HEADER,
};

/// The outcome of parsing the next bytes of a connection.
pub(super) enum ParseOutcome {
    /// The beginning of a head that the fast path may know.
    Partial,
    /// A complete head that the fast path knows, perhaps with more bytes behind it.
    Known(Head),
    /// Anything else, or bytes that may become so.
    Other,
}

/// The head of a request that the fast path knows.
#[derive(Debug)]
pub(crate) struct Head {
    /// Bytes of the head.
    pub length: usize,
    /// Bytes of the body behind it.
    pub body: usize,
    /// Bytes of path and query.
    pub uri_bytes: usize,
    /// Number of headers.
    pub headers: usize,
    /// Bytes of the headers.
    pub header_bytes: usize,
    pub(super) call: Call,
}

/// The call that a request makes.
#[derive(Debug)]
pub(super) enum Call {
    Infer(InferHead),
    /// A request whose answer depends on the path alone.
    Get(Uri),
}

/// The head of an inference.
#[derive(Debug)]
pub(super) struct InferHead {
    pub target: PathTarget,
    /// Length of the JSON if binary tensors follow it.
    pub json_length: Option<usize>,
    /// The encoding that the client prefers.
    pub encoding: Option<Encoding>,
    pub found: FoundHeaders,
}

/// Headers present in a head, of those that are parsed a second time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FoundHeaders {
    /// The request's id, or the request for its timings.
    pub trace: bool,
    /// The client's trace, which the access log reads.
    pub traceparent: bool,
    pub priority: bool,
}

/// Headers of a head at most; hyper reads longer ones.
const MAX_HEADERS: usize = 48;

/// A header that the fast path knows.
#[derive(Clone, Copy)]
enum KnownHeader {
    ContentLength,
    JsonLength,
    AcceptEncoding,
    /// Known with the value `keep-alive`.
    Connection,
    /// Known with a value that allows JSON, which the answer to everything but binary outputs is.
    Accept,
    /// Known at inferences with the value that clients send by habit: the body's form is in its JSON length.
    ContentType,
    /// The request's id, or the request for its timings.
    Trace,
    Traceparent,
    Priority,
    /// Read where a model's traffic is divided.
    RoutingKey,
    /// Ignored: no answer depends on it.
    WithoutEffect,
}

impl KnownHeader {
    /// The allowlist. A header belongs here only if the pipeline reads it from this head too, or if no part of the server reads
    /// it. Before any other part begins to read a header, the header has to leave this list.
    fn of(name: &str) -> Option<Self> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        Some(match name.len() {
            14 if is("content-length") => KnownHeader::ContentLength,
            31 if is(JSON_LENGTH_NAME) => KnownHeader::JsonLength,
            // Models are selected by path, and ports by address.
            4 if is("host") => KnownHeader::WithoutEffect,
            // Every library sends one.
            10 if is("user-agent") => KnownHeader::WithoutEffect,
            6 if is("accept") => KnownHeader::Accept,
            12 if is("content-type") => KnownHeader::ContentType,
            15 if is("accept-encoding") => KnownHeader::AcceptEncoding,
            10 if is("connection") => KnownHeader::Connection,
            12 if is(REQUEST_ID_NAME) => KnownHeader::Trace,
            19 if is(TIMING_WANTED_NAME) => KnownHeader::Trace,
            11 if is(TRACEPARENT_NAME) => KnownHeader::Traceparent,
            // Sent with `traceparent`; only the id of the trace is kept.
            10 if is("tracestate") => KnownHeader::WithoutEffect,
            14 if is(PRIORITY_NAME) => KnownHeader::Priority,
            17 if is(ROUTING_KEY_HEADER) => KnownHeader::RoutingKey,
            // `fetch` of Node.js sends both. Messages have one language, and nothing depends on the mode of a page's request.
            15 if is("accept-language") => KnownHeader::WithoutEffect,
            14 if is("sec-fetch-mode") => KnownHeader::WithoutEffect,
            _ => return None,
        })
    }
}

/// Parses the next bytes.
pub(super) fn parse(bytes: &[u8]) -> ParseOutcome {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(one, other)| one == other);
    if !begins(b"POST /v2/models/") && !begins(b"GET /") {
        return ParseOutcome::Other;
    }
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return ParseOutcome::Partial,
        Err(_) => return ParseOutcome::Other,
    };
    head(length, &request).map_or(ParseOutcome::Other, ParseOutcome::Known)
}

/// The headers of an inference, by the bytes of its head. Headers that the pipeline reads are parsed once more. Few requests have
/// any, and a routing key is read only where a model's traffic is divided.
pub(super) struct HeadBytes<'a> {
    pub bytes: &'a [u8],
    pub found: FoundHeaders,
    /// True if there is an access log.
    pub is_logged: bool,
}

impl RequestHeaders for HeadBytes<'_> {
    fn trace(&self) -> TraceHeaders<'_> {
        let is_read = self.found.trace || self.found.traceparent && self.is_logged;
        if !is_read {
            return TraceHeaders::default();
        }
        let names = [REQUEST_ID_NAME, TIMING_WANTED_NAME, TRACEPARENT_NAME];
        let [request_id, timing_wanted, traceparent] = values(self.bytes, names);
        TraceHeaders { request_id, timing_wanted, traceparent }
    }

    fn priority(&self) -> Option<&[u8]> {
        if self.found.priority { self.value(PRIORITY_NAME) } else { None }
    }

    fn value(&self, name: &str) -> Option<&[u8]> {
        let [value] = values(self.bytes, [name]);
        value
    }
}

/// The values of headers in a head that was parsed before; the first value if a header is repeated.
fn values<'a, const N: usize>(head: &'a [u8], names: [&str; N]) -> [Option<&'a [u8]>; N] {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    if request.parse_with_uninit_headers(head, &mut headers).is_err() {
        return [None; N];
    }
    names.map(|name| {
        let found = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| header.value)
    })
}

/// The head that was parsed, if the fast path knows all of it.
fn head(length: usize, request: &httparse::Request<'_, '_>) -> Option<Head> {
    let (method, path) = (request.method?, request.path.filter(|_| request.version == Some(1))?);
    let (mut body, mut json_length, mut accepted) = (None, None, None);
    let (mut found, mut has_content_type) = (FoundHeaders::default(), false);
    for header in request.headers.iter() {
        match KnownHeader::of(header.name)? {
            KnownHeader::WithoutEffect | KnownHeader::RoutingKey => {}
            // Refuses a second length, and anything but digits.
            KnownHeader::ContentLength => body = Some(only(body, number(header.value)?)?),
            KnownHeader::JsonLength => json_length = Some(only(json_length, number(header.value)?)?),
            KnownHeader::AcceptEncoding => accepted = Some(only(accepted, ascii(header.value)?)?),
            KnownHeader::Accept if allows_json(header.value) => {}
            KnownHeader::ContentType if is_usual_type(header.value) => has_content_type = true,
            KnownHeader::Connection if header.value.eq_ignore_ascii_case(b"keep-alive") => {}
            KnownHeader::Accept | KnownHeader::ContentType | KnownHeader::Connection => return None,
            KnownHeader::Trace => found.trace = true,
            KnownHeader::Traceparent => found.traceparent = true,
            KnownHeader::Priority => found.priority = true,
        }
    }
    let size = |header: &httparse::Header<'_>| header.name.len() + header.value.len() + ": \r\n".len();
    let call = match method {
        "POST" => {
            let body = body?;
            let encoding = accepted.and_then(|value| Encoding::accepted_of([value]));
            let target = PathTarget::of_inference(path).filter(|_| is_simple(path))?.ok()?;
            let fits = json_length.is_none_or(|length| length <= body);
            fits.then_some(Call::Infer(InferHead { target, json_length, encoding, found }))?
        }
        "GET" if body.is_none() && !has_content_type && PathTarget::of_inference(path).is_none() => {
            Call::Get(path.parse().ok()?)
        }
        _ => return None,
    };
    Some(Head {
        length,
        body: body.unwrap_or(0),
        uri_bytes: path.len(),
        headers: request.headers.len(),
        header_bytes: request.headers.iter().map(size).sum(),
        call,
    })
}

/// True if an Accept allows any type, or JSON.
fn allows_json(value: &[u8]) -> bool {
    let is_json = |range: &[u8]| range == b"*/*" || range.eq_ignore_ascii_case(b"application/json");
    value.split(|byte| *byte == b',').any(|range| is_json(without_parameters(range)))
}

/// True if a Content-Type is one that clients send with requests of this protocol.
fn is_usual_type(value: &[u8]) -> bool {
    const USUAL: [&str; 4] =
        ["application/json", "application/octet-stream", "application/x-www-form-urlencoded", "text/plain"];
    let given = without_parameters(value);
    USUAL.iter().any(|usual| given.eq_ignore_ascii_case(usual.as_bytes()))
}

/// A media type without the parameters behind it.
fn without_parameters(value: &[u8]) -> &[u8] {
    let end = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
    value[..end].trim_ascii()
}

/// The value of a header that may occur once.
fn only<T>(before: Option<T>, value: T) -> Option<T> {
    before.is_none().then_some(value)
}

fn number(digits: &[u8]) -> Option<usize> {
    // A number that is parsed may have a sign, so all bytes have to be digits.
    ascii(digits)?.parse().ok().filter(|_| digits.iter().all(u8::is_ascii_digit))
}

fn ascii(value: &[u8]) -> Option<&str> {
    str::from_utf8(value).ok().filter(|text| text.is_ascii())
}

/// True if a path has no query, and only characters that a URI may have.
fn is_simple(path: &str) -> bool {
    path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%+:@".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_known(head: &str) -> bool {
        matches!(parse(head.as_bytes()), ParseOutcome::Known(_))
    }

    #[test]
    fn ambiguous_head_is_not_known() {
        let with = |headers: &str| format!("POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        for headers in [
            "",
            "Accept: */*\r\ntraceparent: 00\r\nConnection: Keep-Alive\r\nAccept-Encoding: gzip\r\n",
            "X-Request-Id: 1\r\nonnxd-server-timing: 1\r\n",
            "onnxd-priority: 1\r\nonnxd-routing-key: k\r\ntraceState: a=b\r\n",
        ] {
            assert!(is_known(&with(&format!("Content-Length: 5\r\n{headers}"))), "{headers}");
        }
        for headers in [
            "",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length:\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 5\r\ntransfer-ENCODING:\r\n",
            "Content-Length: 5\r\nConnection: close\r\n",
            "Content-Length: 5\r\nConnection: keep-alive, upgrade\r\n",
            "Content-Length: 5\r\nExpect: 100-continue\r\n",
            "Content-Length: 5\r\nUpgrade: h2c\r\n",
            "Content-Length: 5\r\nContent-Encoding: identity\r\n",
            "Content-Length: 5\r\nInference-Header-Content-Length: 6\r\n",
            "Content-Length : 5\r\n",
            " Content-Length: 5\r\n",
        ] {
            assert!(!is_known(&with(headers)), "{headers}");
        }
        for line in ["POST /v2/models/m/infer?q HTTP/1.1", "POST /v2/models/m/infer HTTP/1.0", "PUT /v2 HTTP/1.1"] {
            assert!(!is_known(&format!("{line}\r\nContent-Length: 5\r\n\r\n")), "{line}");
        }
        assert!(is_known("GET /v2 HTTP/1.1\r\n\r\n") && !is_known("GET /v2 HTTP/1.1\r\nContent-Length: 0\r\n\r\n"));
        assert!(!is_known("GET /v2/models/m/infer HTTP/1.1\r\n\r\n"), "it is refused where inferences are answered");
    }

    const HEAD: &str = "POST /v2/models/m/infer HTTP/1.1\r\nContent-Length: 5\r\n";

    #[test]
    fn headers_of_usual_clients_are_known() {
        for (client, headers) in [
            (
                "curl",
                "Host: h:1\r\nUser-Agent: curl/8\r\nAccept: */*\r\nContent-Type: application/x-www-form-urlencoded\r\n",
            ),
            (
                "curl --json",
                "Host: h:1\r\nUser-Agent: curl/8\r\nContent-Type: application/json\r\nAccept: application/json\r\n",
            ),
            (
                "requests",
                "Host: h:1\r\nUser-Agent: python-requests/2.34.2\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\nContent-Type: application/json\r\n",
            ),
            ("urllib3", "Host: h:1\r\nAccept-Encoding: identity\r\nUser-Agent: python-urllib3/2.7.0\r\n"),
            (
                "httpx, aiohttp",
                "Host: h:1\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate, br\r\nConnection: keep-alive\r\nUser-Agent: x\r\nContent-Type: application/octet-stream\r\n",
            ),
            (
                "tritonclient",
                "User-Agent: python/gevent-http-client-2.6.1\r\nInference-Header-Content-Length: 3\r\nHost: h:1\r\n",
            ),
            (
                "net/http",
                "Host: h:1\r\nUser-Agent: Go-http-client/1.1\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n",
            ),
            (
                "fetch",
                "host: h:1\r\nconnection: keep-alive\r\ncontent-type: text/plain;charset=UTF-8\r\naccept: */*\r\naccept-language: *\r\nsec-fetch-mode: cors\r\nuser-agent: node\r\naccept-encoding: gzip, deflate\r\n",
            ),
            (
                "axios",
                "Host: h:1\r\nAccept: application/json, text/plain, */*\r\nContent-Type: application/json; charset=utf-8\r\n",
            ),
        ] {
            assert!(is_known(&format!("{HEAD}{headers}\r\n")), "{client}");
        }
    }

    #[test]
    fn headers_that_are_not_listed_are_not_known() {
        for headers in [
            "Accept: text/html\r\n",
            "Accept:\r\n",
            "Content-Type: application/grpc\r\n",
            "Content-Type: multipart/form-data; boundary=x\r\n",
            "Authorization: Bearer x\r\n",
            "Cookie: a=b\r\n",
            "X-User-Id: 7\r\n",
            "user-agents: x\r\n",
            "hosts: x\r\n",
        ] {
            assert!(!is_known(&format!("{HEAD}{headers}\r\n")), "{headers}");
        }
        assert!(!is_known("GET /v2 HTTP/1.1\r\nContent-Type: application/json\r\n\r\n"), "an answer may depend on it");
    }

    proptest! {
        /// Every name that is not in the allowlist, in any case.
        #[test]
        fn header_name_outside_the_allowlist_is_not_known(name in "[a-zA-Z][a-zA-Z0-9-]{0,40}") {
            prop_assume!(KnownHeader::of(&name).is_none());
            let head = format!("{HEAD}{name}: 1\r\n\r\n");
            prop_assert!(!is_known(&head));
        }

        /// For any bytes: a known head ends in an empty line, and each of its prefixes parses as partial.
        #[test]
        fn known_head_is_complete_for_any_bytes(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)) {
            let good = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
            let mut bytes = good.to_vec();
            for (place, byte) in changes {
                *place.get_mut(&mut bytes) = byte;
            }
            if let ParseOutcome::Known(head) = parse(&bytes) {
                prop_assert!(bytes[..head.length].ends_with(b"\n"));
                // The change may have added a digit.
                prop_assert!(head.body < 10_000);
                for end in 1..head.length {
                    prop_assert!(matches!(parse(&bytes[..end]), ParseOutcome::Partial), "{end}");
                }
            }
        }
    }
}
