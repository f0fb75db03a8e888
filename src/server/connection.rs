//! One connection: what it may do, and the watch over it.

use axum::{
    http::{HeaderMap, HeaderValue, Request, StatusCode, Version, header::CONNECTION},
    response::Response,
};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{net::TcpStream, sync::watch};
use tower_service::Service;

use super::{
    activity::{Activity, Watched, until_closed},
    limits::ConnectionLimits,
};
use crate::{
    api::{Lifecycle, http::refusal},
    metrics::TransportMetrics,
};

/// Flow-control windows: what a client may send before it is read. Bodies are read as they come, so that large ones are not
/// held up; but what came in one go waits for its reader uncounted, and hostile clients see to it that it is much. And frames
/// large enough that a tensor does not come in thousands of pieces.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
const MAX_FRAME: u32 = 256 << 10;

/// What HTTP/1.1 reads ahead at most.
const READ_AHEAD: usize = 128 << 10;

/// A client that has not answered a ping by then has gone.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What the connections of one port have in common.
#[derive(Clone)]
pub(super) struct Terms {
    routes: axum::Router,
    builder: Arc<auto::Builder<TokioExecutor>>,
    limits: Arc<ConnectionLimits>,
    lifecycle: watch::Receiver<Lifecycle>,
    metrics: TransportMetrics,
}

impl Terms {
    pub(super) fn new(
        routes: axum::Router,
        limits: Arc<ConnectionLimits>,
        lifecycle: watch::Receiver<Lifecycle>,
        metrics: TransportMetrics,
    ) -> Self {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().max_buf_size(READ_AHEAD.max(limits.header_bytes));
        if limits.headers != 100 {
            // Its own default costs it no allocation.
            builder.http1().max_headers(limits.headers);
        }
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(limits.ping_interval)
            .keep_alive_timeout(PING_TIMEOUT)
            .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
            .max_concurrent_streams(limits.streams)
            // As many may be cancelled before they are looked at: a burst of deadlines is no attack, and the connection that
            // would be closed carries others' requests too.
            .max_pending_accept_reset_streams(limits.streams as usize)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME);
        Terms { routes, builder: Arc::new(builder), limits, lifecycle, metrics }
    }

    /// Serves a connection until it ends. Once `closing` ends it is given what it has begun.
    pub(super) async fn serve(self, stream: TcpStream, closing: impl Future<Output = ()>) {
        let activity = Arc::new(Activity::default());
        let (routes, limits, lifecycle) = (self.routes, self.limits.clone(), self.lifecycle);
        let seen = activity.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            let open = seen.begin();
            let keeps_alive = request.version() <= Version::HTTP_11;
            let answering = match too_long(&request, &limits) {
                Some(refused) => Err(refused),
                None => {
                    request.extensions_mut().insert(seen.unwritten.clone());
                    Ok(routes.clone().call(request))
                }
            };
            let lifecycle = lifecycle.clone();
            async move {
                let mut response = match answering {
                    Ok(answering) => answering.await?,
                    Err(refused) => refused,
                };
                if keeps_alive && *lifecycle.borrow() == Lifecycle::Draining {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                drop(open);
                Ok::<_, Infallible>(response)
            }
        });
        let stream = Watched::new(stream, activity.clone());
        let connection = self.builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let watching = until_closed(&activity, &self.limits);
        tokio::pin!(watching);
        let watched = tokio::select! {
            biased;
            // How a connection ended is the client's affair: it may just have gone.
            _ = connection.as_mut() => return,
            why = watching.as_mut() => Some(why),
            () = closing => None,
        };
        let watched = match watched {
            Some(why) => why,
            None => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    _ = connection => return,
                    why = watching => why,
                }
            }
        };
        tracing::debug!(reason = watched.label(), "a connection is closed");
        self.metrics.closed(watched);
    }
}

/// The refusal of a request whose head is too long.
fn too_long(request: &Request<Incoming>, limits: &ConnectionLimits) -> Option<Response> {
    let uri = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    if uri > limits.uri_bytes {
        let most = limits.uri_bytes;
        let message = format!("path and query have {uri} bytes, more than the limit of {most} bytes (--max-uri-bytes)");
        return Some(refusal(StatusCode::URI_TOO_LONG, message));
    }
    // HTTP/2 does so itself.
    let headers = (request.version() <= Version::HTTP_11).then(|| size(request.headers()))?;
    (headers > limits.header_bytes).then(|| {
        let most = limits.header_bytes;
        let message =
            format!("the headers have {headers} bytes, more than the limit of {most} bytes (--max-header-bytes)");
        refusal(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, message)
    })
}

/// As HTTP/1.1 writes them.
fn size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum()
}
