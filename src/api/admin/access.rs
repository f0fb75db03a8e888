//! Who may call.

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue,
        header::{AUTHORIZATION, ORIGIN, WWW_AUTHENTICATE},
    },
    middleware::Next,
    response::Response,
};
use std::sync::Arc;

use super::{Tokens, grpc, http, is_grpc};
use crate::error::{Code, Error, Result};

/// The name that the caller's token has, if any, among the extensions of a request.
#[derive(Clone)]
pub(super) struct Caller(pub(super) Option<Arc<str>>);

/// Lets a call pass whose token is one that counts; any, where there are no tokens.
pub(super) async fn check(State(tokens): State<Option<Arc<Tokens>>>, mut request: Request, next: Next) -> Response {
    match caller(tokens, request.headers()).await {
        Ok(caller) => {
            request.extensions_mut().insert(Caller(caller));
            next.run(request).await
        }
        Err(error) if is_grpc(&request) => grpc::status(error).into_http(),
        Err(error) => {
            let mut response = http::refused(&error);
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"onnxd\""));
            response
        }
    }
}

async fn caller(tokens: Option<Arc<Tokens>>, headers: &HeaderMap) -> Result<Option<Arc<str>>> {
    let Some(tokens) = tokens else {
        // Any page that somebody looks at on this machine may send requests here, and browsers say so.
        if headers.contains_key(ORIGIN) {
            return Err(refused(
                "a web page may call only with a token, and this server has none (--admin-token-file)",
            ));
        }
        return Ok(None);
    };
    let token = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes())).map(<[u8]>::to_vec);
    let Some(token) = token else {
        return Err(refused("a token is needed: Authorization: Bearer TOKEN (metadata `authorization` over gRPC)"));
    };
    let bearer = tokio::task::spawn_blocking(move || tokens.bearer(&token)).await;
    let bearer = bearer.map_err(|_| Error::internal("the token can't be checked: this is a defect of the server"))?;
    bearer.ok_or_else(|| refused("the token is not one of those that this server takes (--admin-token-file)"))
}

/// What stands behind `Bearer `, whose case does not matter.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
}

fn refused(why: &'static str) -> Error {
    Error::new(Code::Unauthenticated, why)
}
