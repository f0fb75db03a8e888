//! Heads of plain requests over HTTP/1.1, read from the bytes of a connection.
//!
//! What is taken here is a part of what hyper takes, and means the same there: the parser is the one that hyper uses, what
//! stands for the end of a request is one Content-Length, and any header that hyper or an endpoint does something about
//! ([`meaning`]) makes the request hyper's, unless it is understood here as well. So no two readers can see two requests in the
//! same bytes.

use axum::http::Uri;
use std::mem::MaybeUninit;

use crate::api::dialect::oip_http::service::Target;
use crate::api::{
    dialect::parameters::PRIORITY_NAME,
    request_log::{ASKS_FOR_TIMING, Beside, REQUEST_ID, TRACEPARENT},
    transport::compression::Encoding,
};

/// A look at the bytes that come next on a connection.
pub enum Look {
    /// They are the beginning of a plain request, or may be.
    Partial,
    /// They begin with the head of a plain request.
    Plain(Head),
    /// They are something else, or may be.
    Other,
}

/// The head of a plain request.
#[derive(Debug)]
pub struct Head {
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
    pub(in crate::api) kind: Kind,
}

/// What a plain request asks for.
#[derive(Debug)]
pub(in crate::api) enum Kind {
    /// An inference.
    Infer {
        target: Target,
        /// Length of the JSON where binary tensors stand behind it.
        json_length: Option<usize>,
        /// The encoding that the client wants most.
        encoding: Option<Encoding>,
        /// Whether there is a header of those that [`beside`] reads whoever listens.
        has_beside: bool,
        /// Whether there is the one that the access log wants.
        is_traced: bool,
        /// Whether there is the one of the priority level.
        has_priority: bool,
    },
    /// What does not depend on more than the path.
    Get(Uri),
}

/// What is longer is looked at by hyper.
const MOST_HEADERS: usize = 48;

/// What a header means to hyper or to an endpoint.
enum Meaning {
    ContentLength,
    JsonLength,
    AcceptEncoding,
    Connection,
    /// Something that is told beside the answer.
    Beside,
    Trace,
    Priority,
    /// That the request is not plain.
    Other,
    None,
}

/// A header that comes to mean something to an inference belongs here: read it, or call it [`Meaning::Other`]. Routing keys may
/// come in any, and are asked for by [`header`].
fn meaning(name: &str) -> Meaning {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    match name.len() {
        14 if is("content-length") => Meaning::ContentLength,
        31 if is("inference-header-content-length") => Meaning::JsonLength,
        15 if is("accept-encoding") => Meaning::AcceptEncoding,
        10 if is("connection") => Meaning::Connection,
        12 if is("x-request-id") => Meaning::Beside,
        19 if is("onnxd-server-timing") => Meaning::Beside,
        11 if is("traceparent") => Meaning::Trace,
        14 if is(PRIORITY_NAME) => Meaning::Priority,
        17 if is("transfer-encoding") => Meaning::Other,
        16 if is("content-encoding") => Meaning::Other,
        14 if is("http2-settings") => Meaning::Other,
        7 if is("upgrade") || is("trailer") => Meaning::Other,
        6 if is("expect") => Meaning::Other,
        2 if is("te") => Meaning::Other,
        _ => Meaning::None,
    }
}

/// Looks at what comes next.
pub(in crate::api) fn look(bytes: &[u8]) -> Look {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(one, other)| one == other);
    if !begins(b"POST /v2/models/") && !begins(b"GET /") {
        return Look::Other;
    }
    let mut headers = [const { MaybeUninit::uninit() }; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Look::Partial,
        Err(_) => return Look::Other,
    };
    head(length, &request).map_or(Look::Other, Look::Plain)
}

/// The value of a header in a head that was looked at; of several the first. It is read once more: only where a model's traffic
/// is divided does anybody ask.
pub(in crate::api) fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let [value] = values(head, [name]);
    value
}

/// What such a head says that is no business of the inference. It is read once more for that, too.
pub(in crate::api) fn beside(head: &[u8]) -> Beside<'_> {
    let [request_id, asks_for_timing, traceparent] = values(head, [REQUEST_ID, ASKS_FOR_TIMING, TRACEPARENT]);
    Beside { request_id, asks_for_timing, traceparent }
}

fn values<'a, const N: usize>(head: &'a [u8], names: [&str; N]) -> [Option<&'a [u8]>; N] {
    let mut headers = [const { MaybeUninit::uninit() }; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    if request.parse_with_uninit_headers(head, &mut headers).is_err() {
        return [None; N];
    }
    names.map(|name| {
        let found = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| header.value)
    })
}

/// The head that was parsed, if it is plain.
fn head(length: usize, request: &httparse::Request<'_, '_>) -> Option<Head> {
    let (method, path) = (request.method?, request.path.filter(|_| request.version == Some(1))?);
    let (mut body, mut json_length, mut accepted) = (None, None, None);
    let (mut has_beside, mut is_traced, mut has_priority) = (false, false, false);
    for header in request.headers.iter() {
        match meaning(header.name) {
            Meaning::None => {}
            // Not given before, and nothing but digits.
            Meaning::ContentLength => body = Some(only(body, number(header.value)?)?),
            Meaning::JsonLength => json_length = Some(only(json_length, number(header.value)?)?),
            Meaning::AcceptEncoding => accepted = Some(only(accepted, ascii(header.value)?)?),
            Meaning::Beside => has_beside = true,
            Meaning::Trace => is_traced = true,
            Meaning::Priority => has_priority = true,
            Meaning::Connection if header.value.eq_ignore_ascii_case(b"keep-alive") => {}
            Meaning::Connection | Meaning::Other => return None,
        }
    }
    let size = |header: &httparse::Header<'_>| header.name.len() + header.value.len() + ": \r\n".len();
    let kind = match method {
        "POST" => {
            let body = body?;
            let encoding = accepted.map(|value| Encoding::accepted_of([value]));
            let target = Target::of_inference(path).filter(|_| is_simple(path))?.ok()?;
            let fits = json_length.is_none_or(|length| length <= body);
            let encoding = encoding.flatten();
            fits.then_some(Kind::Infer { target, json_length, encoding, has_beside, is_traced, has_priority })?
        }
        "GET" if body.is_none() && Target::of_inference(path).is_none() => Kind::Get(path.parse().ok()?),
        _ => return None,
    };
    Some(Head {
        length,
        body: body.unwrap_or(0),
        uri_bytes: path.len(),
        headers: request.headers.len(),
        header_bytes: request.headers.iter().map(size).sum(),
        kind,
    })
}

/// The value of a header that may stand there once.
fn only<T>(before: Option<T>, value: T) -> Option<T> {
    before.is_none().then_some(value)
}

fn number(digits: &[u8]) -> Option<usize> {
    // Read as a number they might have a sign.
    ascii(digits)?.parse().ok().filter(|_| digits.iter().all(u8::is_ascii_digit))
}

fn ascii(value: &[u8]) -> Option<&str> {
    str::from_utf8(value).ok().filter(|text| text.is_ascii())
}

/// Whether nothing in a path needs a second look: no query, and nothing that is no URI.
fn is_simple(path: &str) -> bool {
    path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%+:@".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_plain(head: &str) -> bool {
        matches!(look(head.as_bytes()), Look::Plain(_))
    }

    #[test]
    fn what_may_mean_something_else_is_not_plain() {
        let with = |headers: &str| format!("POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        for headers in [
            "",
            "Accept: */*\r\ntraceparent: 00\r\nConnection: Keep-Alive\r\nAccept-Encoding: gzip\r\n",
            "X-Request-Id: 1\r\nonnxd-server-timing: 1\r\n",
        ] {
            assert!(is_plain(&with(&format!("Content-Length: 5\r\n{headers}"))), "{headers}");
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
            assert!(!is_plain(&with(headers)), "{headers}");
        }
        for line in ["POST /v2/models/m/infer?q HTTP/1.1", "POST /v2/models/m/infer HTTP/1.0", "PUT /v2 HTTP/1.1"] {
            assert!(!is_plain(&format!("{line}\r\nContent-Length: 5\r\n\r\n")), "{line}");
        }
        assert!(is_plain("GET /v2 HTTP/1.1\r\n\r\n") && !is_plain("GET /v2 HTTP/1.1\r\nContent-Length: 0\r\n\r\n"));
        assert!(!is_plain("GET /v2/models/m/infer HTTP/1.1\r\n\r\n"), "it is refused where inferences are answered");
    }

    proptest! {
        /// Whatever comes: a plain head ends in an empty line, and its beginnings are the beginning of something.
        #[test]
        fn heads_of_any_bytes(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)) {
            let good = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
            let mut bytes = good.to_vec();
            for (place, byte) in changes {
                *place.get_mut(&mut bytes) = byte;
            }
            if let Look::Plain(head) = look(&bytes) {
                prop_assert!(bytes[..head.length].ends_with(b"\n"));
                // What is changed may be a digit more.
                prop_assert!(head.body < 10_000);
                for end in 1..head.length {
                    prop_assert!(matches!(look(&bytes[..end]), Look::Partial), "{end}");
                }
            }
        }
    }
}
