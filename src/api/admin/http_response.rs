//! Responses of admin calls over HTTP: JSON.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;

use crate::{
    api::text::shown,
    error::{Code, Error, Result},
};

/// The response with the outcome of a call.
pub(super) fn outcome<A: Serialize>(answer: Result<A>) -> Response {
    match answer {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => refused(&error),
    }
}

/// The response with an error.
pub(super) fn refused(refused: &Error) -> Response {
    let status = StatusCode::from_u16(refused.code().http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    error(status, refused.code(), refused.message())
}

/// The response with an error, of any status.
pub(super) fn error(status: StatusCode, code: Code, message: &str) -> Response {
    (status, Json(json!({ "error": shown(message), "code": code.label() }))).into_response()
}
