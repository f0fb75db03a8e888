//! Serves one connection: its protocol, its limits, and its end.

use axum::{
    body::{Body, HttpBody},
    http::{
        HeaderMap, HeaderValue, Request, StatusCode, Version,
        header::{CONNECTION, DATE},
    },
};
use futures_util::{
    FutureExt, Stream, StreamExt,
    future::{Either, select},
    stream::FuturesUnordered,
};
use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{rt::TokioIo, server::conn::auto};
use std::{
    convert::Infallible,
    future::ready,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{sync::watch, time::sleep};

use super::{
    activity::{ConnectionActivity, Open, until_closed, until_greeted},
    byte_stream::{ByteStream, StreamHandle},
    client_stream::ClientStream,
    coarse_timer::CoarseTimer,
    connection_limit::Full,
    half_close::until_gone,
    http_limits::HttpLimits,
    http1_fast_path::{self, ConnectionRules, FastPath, Head},
    http2_flood,
    poll_once::PollOnceExecutor,
};
use crate::{
    api::{
        AnswerBody, HttpResponse, ServerPhase, Service, refuse_unless_health,
        transport::http::{date_header, refusal},
    },
    metrics::{Closed, TransportMetrics},
};

/// Flow-control windows: bytes that a client may send before they are read. Bodies are read as they come, so that large ones are
/// not held up. But bytes that come in one read wait for their reader uncounted, and hostile clients make sure that those are
/// many. The frame size is large enough that a tensor does not come in thousands of pieces.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
const MAX_FRAME: u32 = 256 << 10;

/// Bytes that HTTP/1.1 reads ahead at most.
const READ_AHEAD: usize = 128 << 10;

/// Time until a ping is answered. A client that takes longer has gone.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Time for a client that has just connected to begin its request when the port closes.
const GREETING_GRACE: Duration = Duration::from_millis(500);

/// Time for an evicted connection to close: a request may have been on its way.
const EVICTION_GRACE: Duration = Duration::from_secs(1);

/// The answer to the preface of HTTP/2 in the middle of a connection over HTTP/1.1.
const BAD_REQUEST: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Lifetime of a connection for health checks.
const HEALTH_ONLY_LIFETIME: Duration = Duration::from_secs(5);

/// Settings that the connections of one port share.
#[derive(Clone)]
pub(super) struct PortConfig {
    service: Service,
    /// Accepts the protocol that the client begins with.
    builder: Arc<auto::Builder<PollOnceExecutor>>,
    /// Accepts HTTP/1.1 only, for connections that have begun with it.
    http1_builder: Arc<auto::Builder<PollOnceExecutor>>,
    limits: Arc<HttpLimits>,
    phase: watch::Receiver<ServerPhase>,
    metrics: TransportMetrics,
}

/// The client of a connection.
pub(super) struct Peer {
    pub client: SocketAddr,
    pub activity: Arc<ConnectionActivity>,
    /// Reason why the connection answers health checks only, if it does.
    pub health_only: Option<Full>,
}

/// Context that the requests of one connection share.
struct Requests {
    service: Service,
    limits: Arc<HttpLimits>,
    phase: watch::Receiver<ServerPhase>,
    client: SocketAddr,
    activity: Arc<ConnectionActivity>,
    health_only: Option<Full>,
}

impl PortConfig {
    pub(super) fn new(
        service: Service,
        limits: Arc<HttpLimits>,
        phase: watch::Receiver<ServerPhase>,
        metrics: TransportMetrics,
    ) -> Self {
        let mut builder = auto::Builder::new(PollOnceExecutor);
        builder
            .http1()
            .max_buf_size(READ_AHEAD.max(limits.header_bytes))
            // A client may close its side once it has sent its request. `until_gone` detects whether the client has gone.
            .half_close(true)
            // hyper's own header panics if the clock is before 1970.
            .auto_date_header(false);
        if limits.headers != 100 {
            // hyper's own default costs no allocation.
            builder.http1().max_headers(limits.headers);
        }
        builder
            .http2()
            .timer(CoarseTimer::default())
            .keep_alive_interval(limits.ping_interval)
            .keep_alive_timeout(PING_TIMEOUT)
            .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
            .max_concurrent_streams(limits.streams)
            // As many streams may be cancelled before they are accepted. A burst of deadlines is no attack, and the connection
            // that would be closed carries other requests too.
            .max_pending_accept_reset_streams(limits.streams as usize)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .auto_date_header(false);
        let http1_builder = Arc::new(builder.clone().http1_only());
        PortConfig { service, builder: Arc::new(builder), http1_builder, limits, phase, metrics }
    }

    /// Serves a connection of a client until it ends. `accepting` makes the connection's stream. It has no timeout of its own, as
    /// the first request must have begun within the header timeout. After `closing` ends, the connection ends with the requests
    /// that have begun.
    pub(super) async fn serve<S: ByteStream + 'static>(
        self,
        accepting: impl Future<Output = io::Result<S>>,
        peer: Peer,
        closing: impl Future<Output = ()>,
    ) {
        let Peer { client, activity, health_only } = peer;
        let (limits, phase) = (self.limits.clone(), self.phase);
        let fast_path = FastPath::of(&self.service, client).filter(|_| health_only.is_none());
        let requests =
            Requests { service: self.service, limits, phase, client, activity: activity.clone(), health_only };
        // Each event is polled only when it is woken, not whenever the connection makes progress.
        let watching = until_closed(&activity, &self.limits).map(ConnectionEvent::Watched);
        let closing = async {
            let closing = async {
                closing.await;
                until_greeted(&activity, GREETING_GRACE).await;
            };
            select(pin!(closing), pin!(activity.close_requested.notified())).await;
            ConnectionEvent::Closing
        };
        let overdue = until_overdue(&activity, health_only.is_some()).map(|()| ConnectionEvent::End);
        let mut events = FuturesUnordered::from_iter([
            watching.left_future().left_future(),
            closing.right_future().left_future(),
            overdue.right_future().right_future(),
        ]);
        // The error is not logged: the client may just have gone.
        let Some(Ok(stream)) = until_ended(pin!(accepting), &mut events, &self.metrics, |_| false).await else {
            return;
        };
        let mut stream = ClientStream::new(stream, activity.clone(), self.limits.streams);
        let handle = stream.handle();
        let gone = until_gone(&activity, stream.handle()).map(|()| ConnectionEvent::End);
        events.push(gone.left_future().right_future());
        let mut builder = self.builder;
        if let Some(fast_path) = fast_path {
            let served = {
                let serving = pin!(http1_fast_path::serve(&mut stream, &fast_path, &requests));
                until_ended(serving, &mut events, &self.metrics, |_| activity.close()).await
            };
            match served.flatten() {
                Some(read) => stream.read_again(read),
                // A flood may come with the first bytes of HTTP/2.
                None => return http2_flood::end(&activity, &*handle, &self.metrics).await,
            }
            if activity.begun() > 0 {
                builder = self.http1_builder;
            }
        }
        let service = service_fn(move |request| requests.answer(request));
        // Boxed apart: most connections over HTTP/1.1 never reach this point.
        let mut connection = Box::pin(builder.serve_connection(TokioIo::new(stream), service));
        if activity.is_closing() {
            connection.as_mut().graceful_shutdown();
        }
        let close = |connection: Pin<&mut _>| {
            auto::Connection::graceful_shutdown(connection);
            true
        };
        // The error of a connection is not logged: its client may just have gone.
        let ended = until_ended(connection.as_mut(), &mut events, &self.metrics, close).await;
        // Its requests are dropped with it.
        drop(connection);
        if ended.is_some_and(|ended| ended.is_err_and(|error| is_late_preface(&*error))) {
            // hyper sends no response here, as its caller might go on with HTTP/2.
            let _ = handle.try_write(BAD_REQUEST);
        }
        http2_flood::end(&activity, &*handle, &self.metrics).await;
    }
}

/// True if a connection over HTTP/1.1 ended because its client continued with the preface of HTTP/2. The preface is valid only at
/// the beginning of a connection: any reader of the requests before it took them for HTTP/1.1.
fn is_late_preface(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse_version_h2)
}

/// Ends when a connection that has to close has used up its time.
async fn until_overdue(activity: &ConnectionActivity, health_only: bool) {
    if health_only {
        return sleep(HEALTH_ONLY_LIFETIME).await;
    }
    activity.end_requested.notified().await;
    loop {
        sleep(EVICTION_GRACE).await;
        if activity.idle_time().is_some() {
            return;
        }
    }
}

/// Serves a connection until it has ended, or has to. `close` has it end with the requests that have begun. `close` returns false
/// if there are none.
async fn until_ended<F: Future>(
    mut serving: Pin<&mut F>,
    events: &mut (impl Stream<Item = ConnectionEvent> + Unpin),
    metrics: &TransportMetrics,
    close: impl Fn(Pin<&mut F>) -> bool,
) -> Option<F::Output> {
    loop {
        let event = tokio::select! {
            biased;
            ended = serving.as_mut() => return Some(ended),
            Some(event) = events.next() => event,
        };
        match event {
            ConnectionEvent::Watched(why) => {
                tracing::debug!(reason = why.label(), "connection closed");
                metrics.closed(why);
                return None;
            }
            ConnectionEvent::Closing if close(serving.as_mut()) => {}
            ConnectionEvent::Closing | ConnectionEvent::End => return None,
        }
    }
}

/// Event that ends a connection.
enum ConnectionEvent {
    /// The client makes no progress.
    Watched(Closed),
    /// The server closes the connection.
    Closing,
    /// The client has gone, or its time is over.
    End,
}

impl ConnectionRules for Requests {
    fn takes(&self, head: &Head) -> bool {
        let limits = &self.limits;
        head.uri_bytes <= limits.uri_bytes && head.headers <= limits.headers && head.header_bytes <= limits.header_bytes
    }

    fn is_last(&self) -> bool {
        self.activity.is_closing() || *self.phase.borrow() == ServerPhase::Draining
    }

    fn activity(&self) -> &Arc<ConnectionActivity> {
        &self.activity
    }
}

impl Requests {
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Result<HttpResponse, Infallible>> + use<> {
        let open = self.activity.begin();
        // HTTP/2 announces the end by GOAWAY instead of a header.
        let phase = (request.version() <= Version::HTTP_11).then(|| self.phase.clone());
        if request.version() < Version::HTTP_11 {
            self.activity.http10.store(true, Relaxed);
        }
        let is_last = self.health_only.is_some();
        let answering = match self.refusal(&request) {
            Some(refused) => Either::Left(ready(refused)),
            None => Either::Right(self.service.answer(request, &self.activity.pending, self.client)),
        };
        // Not `async`, which would store the future twice.
        answering.map(move |answer| {
            let mut answer = keeping_open(answer, open);
            answer.headers_mut().entry(DATE).or_insert_with(date_header);
            if phase.is_some_and(|phase| is_last || *phase.borrow() == ServerPhase::Draining) {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(answer)
        })
    }

    /// The refusal of a request that the connection does not take.
    fn refusal(&self, request: &Request<Incoming>) -> Option<HttpResponse> {
        let Some(full) = self.health_only else { return too_long(request, &self.limits) };
        // The first request is the last.
        self.activity.close_requested.notify_one();
        too_long(request, &self.limits).or_else(|| refuse_unless_health(request, &full.reason()))
    }
}

/// Keeps a request open until its answer is returned. If the answer continues for as long as there are events to send, its
/// request stays open until the answer's end.
fn keeping_open(answer: HttpResponse, open: Open) -> HttpResponse {
    match answer.body() {
        AnswerBody::Other(body) if body.size_hint().exact().is_none() => answer.map(|body| {
            let open = open.endless();
            let body = body.map_frame(move |frame| {
                let _open = &open;
                frame
            });
            AnswerBody::Other(Body::new(body))
        }),
        _ => answer,
    }
}

/// The refusal of a request whose head is too long.
fn too_long(request: &Request<Incoming>, limits: &HttpLimits) -> Option<HttpResponse> {
    let refusal = |status, message| Some(refusal(status, message).map(AnswerBody::Other));
    let uri = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    if uri > limits.uri_bytes {
        let most = limits.uri_bytes;
        let message = format!("path and query have {uri} bytes, more than the limit of {most} bytes (--max-uri-bytes)");
        return refusal(StatusCode::URI_TOO_LONG, message);
    }
    // hyper checks this limit itself for HTTP/2.
    let headers = (request.version() <= Version::HTTP_11).then(|| size(request.headers()))?;
    let most = limits.header_bytes;
    if headers <= most {
        return None;
    }
    let message = format!("the headers have {headers} bytes, more than the limit of {most} bytes (--max-header-bytes)");
    refusal(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, message)
}

/// Size of the headers as HTTP/1.1 writes them.
fn size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum()
}
