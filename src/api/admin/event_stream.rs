//! The stream of events over HTTP: server-sent events.

use axum::{
    extract::{Request, State},
    http::HeaderValue,
    response::{
        IntoResponse, Response,
        sse::{self, KeepAlive, Sse},
    },
};
use futures_util::StreamExt;
use std::time::Duration;

use super::{backend::Admin, http_request::message, http_response::refused, watch};
use crate::api::proto::admin::WatchRequest;

/// Time after which a stream without events sends a comment, so that a client that has gone is noticed and proxies keep it open.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// `GET /admin/v1/watch`: server-sent events. Each has its kind as its name, its number in the stream as its id, and the
/// message as its data.
pub(super) async fn watch(State(admin): State<Admin>, request: Request) -> Response {
    let message: WatchRequest = match message(request, &admin.limits).await {
        Ok(message) => message,
        Err(refused) => return refused,
    };
    match watch::events(admin, message).await {
        Ok(events) => {
            let sent = events.enumerate().map(|(index, event)| {
                sse::Event::default().event(&event.kind).id((index + 1).to_string()).json_data(&event)
            });
            let keep_alive = KeepAlive::new().interval(KEEP_ALIVE_INTERVAL).text("nothing has happened");
            let mut response = Sse::new(sent).keep_alive(keep_alive).into_response();
            // nginx would gather them.
            response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
            response
        }
        Err(error) => refused(&error),
    }
}
