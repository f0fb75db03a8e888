//! The stream of events over HTTP: server-sent events.

use axum::{
    body::Body,
    extract::{Request, State},
    http::{
        HeaderValue,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use std::{convert::Infallible, time::Duration};
use tokio::time::timeout;

use super::{backend::Admin, http_request::message, http_response::refused, watch};
use crate::api::proto::admin::{Event, WatchRequest};

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
            let head = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-cache")];
            let mut response = (head, Body::from_stream(server_sent(events))).into_response();
            // nginx would gather them.
            response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
            response
        }
        Err(error) => refused(&error),
    }
}

fn server_sent(events: impl Stream<Item = Event> + Send) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let events = Box::pin(events.enumerate());
    stream::unfold(events, async |mut events| {
        let text = match timeout(KEEP_ALIVE_INTERVAL, events.next()).await {
            Err(_) => ": nothing has happened\n\n".into(),
            Ok(None) => return None,
            Ok(Some((index, event))) => {
                let data = serde_json::to_string(&event).unwrap_or_default();
                format!("event: {}\nid: {}\ndata: {data}\n\n", event.kind, index + 1)
            }
        };
        Some((Ok(Bytes::from(text)), events))
    })
}
