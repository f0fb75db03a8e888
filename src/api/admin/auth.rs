//! Admin authentication.

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, Uri,
        header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE},
        uri::Authority,
    },
    middleware::Next,
    response::Response,
};
use std::{net::IpAddr, sync::Arc};

use super::{http_response, tokens::Tokens};
use crate::{
    api::transport::grpc::{is_grpc, status},
    error::{Code, Error, Result},
};

/// The name that the caller's token has, if any, among the extensions of a request.
#[derive(Clone)]
pub(super) struct Caller(pub(super) Option<Arc<str>>);

/// The callers that an admin port lets in.
#[derive(Debug, Clone)]
pub enum Callers {
    /// Callers that show a token.
    Bearers(Arc<Tokens>),
    /// Callers that reach the port and call it by a name that no other machine has.
    Local,
    /// Callers that reach the port, since something else sees to that.
    Any,
}

/// Lets a call pass that may be made.
pub(super) async fn check(State(callers): State<Callers>, mut request: Request, next: Next) -> Response {
    match caller(callers, request.uri(), request.headers()).await {
        Ok(caller) => {
            request.extensions_mut().insert(Caller(caller));
            next.run(request).await
        }
        Err(error) if is_grpc(request.headers()) => status(error).into_http(),
        Err(error) => {
            let mut response = http_response::refused(&error);
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"onnxd\""));
            response
        }
    }
}

async fn caller(callers: Callers, uri: &Uri, headers: &HeaderMap) -> Result<Option<Arc<str>>> {
    let tokens = match callers {
        Callers::Bearers(tokens) => tokens,
        // Any page that somebody looks at on this machine may send requests here, and browsers say so.
        Callers::Local | Callers::Any if headers.contains_key(ORIGIN) => {
            return Err(refused(
                "a web page may call only with a token, and this server has none (--admin-token-file)",
            ));
        }
        Callers::Local => return check_name(uri, headers).map(|()| None),
        Callers::Any => return Ok(None),
    };
    let token = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes())).map(<[u8]>::to_vec);
    let Some(token) = token else {
        return Err(refused("a token is needed: Authorization: Bearer TOKEN (metadata `authorization` over gRPC)"));
    };
    let bearer = tokio::task::spawn_blocking(move || tokens.bearer(&token)).await;
    let bearer = bearer.map_err(|_| Error::internal("the token can't be checked: this is a defect of the server"))?;
    bearer.ok_or_else(|| refused("the token is not one of those that this server takes (--admin-token-file)"))
}

/// The token behind `Bearer `, whose case does not matter.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
}

/// Refuses a call that does not name this machine. A page may have the name of its own machine lead here (DNS rebinding): to the browser this
/// port is then part of the page, and its requests need no `Origin`.
fn check_name(uri: &Uri, headers: &HeaderMap) -> Result<()> {
    let in_headers = headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
    let in_uri = uri.authority().map(|authority| authority.as_str().as_bytes());
    let Some(foreign) = in_headers.chain(in_uri).find(|name| !is_local(name)) else { return Ok(()) };
    let name = String::from_utf8_lossy(foreign).escape_debug().to_string();
    Err(refused(format!(
        "without a token (--admin-token-file) calls name localhost or an address of this machine as their host, got '{name}', \
         which may be a web page's; --admin-insecure takes any"
    )))
}

/// True if a name, which a port may follow, can't be one that others let lead here.
fn is_local(name: &[u8]) -> bool {
    let Ok(authority) = Authority::try_from(name) else { return false };
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_below = || host.to_ascii_lowercase().ends_with(".localhost");
    !name.contains(&b'@') && (address.is_ok() || host.eq_ignore_ascii_case("localhost") || is_below())
}

fn refused(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Code::Unauthenticated, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_check_accepts_only_names_of_this_machine() {
        for local in ["localhost", "LocalHost:80", "a.b.localhost:1", "127.0.0.1", "[::1]:8003", "192.168.1.9:8003"] {
            assert!(is_local(local.as_bytes()), "{local}");
        }
        for foreign in [
            "",
            "evil",
            "localhost.evil.example",
            "evil-localhost",
            "user@localhost",
            "localhost:80@evil",
            "\u{e9}\u{e9}\u{e9}\u{e9}.localhost",
            "127.0.0.1.evil",
            "0x7f.1",
        ] {
            assert!(!is_local(foreign.as_bytes()), "{foreign}");
        }
        assert!(!is_local(b"\xff"));
    }
}
