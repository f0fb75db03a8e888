use axum::http::{HeaderValue, Request, Version, header::CONNECTION};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
    task::{JoinHandle, JoinSet},
};
use tower_service::Service;

use super::io::IoThreads;
use crate::api::Lifecycle;

/// An open port: HTTP/1.1 and HTTP/2 without TLS, whichever the client begins with.
pub(super) struct Door {
    close: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Streams of one connection that may be open at once. Batches form out of them.
const MAX_STREAMS: u32 = 1024;

/// Flow-control windows that let a tensor of this size through without waiting for the other side, and frames large enough
/// that it does not come in thousands of pieces.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;
const MAX_FRAME: u32 = 1 << 20;

/// How often it is told at most that connections can't be accepted, which is tried many times a second.
const QUIET: Duration = Duration::from_secs(10);

impl Door {
    /// Serves `routes` on the port. When it closes, connections are given `grace` to end by themselves.
    pub(super) fn open(
        protocol: &'static str,
        listener: TcpListener,
        routes: axum::Router,
        grace: Duration,
        lifecycle: watch::Receiver<Lifecycle>,
        io: IoThreads,
    ) -> Self {
        let (close, closing) = oneshot::channel();
        let task = tokio::spawn(run(protocol, listener, Connections::new(routes, grace, lifecycle, io), closing));
        Door { close, task }
    }

    /// Stops accepting and waits until every connection has ended.
    pub(super) async fn close(self) {
        let _ = self.close.send(());
        // A panic in there has been reported; the door is closed all the same.
        let _ = self.task.await;
    }
}

async fn run(
    protocol: &'static str,
    listener: TcpListener,
    mut connections: Connections,
    mut closing: oneshot::Receiver<()>,
) {
    let mut told: Option<Instant> = None;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => match stream.into_std() {
                    Ok(stream) => connections.serve(stream),
                    Err(error) => tracing::warn!(protocol, "a connection is lost: {error}"),
                },
                Err(error) => {
                    // Out of descriptors, most likely: it passes when connections end, and must not become a busy loop.
                    if told.is_none_or(|told| told.elapsed() >= QUIET) {
                        tracing::warn!(protocol, "a connection can't be accepted: {error}");
                        told = Some(Instant::now());
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.tasks.join_next() => {}
            _ = &mut closing => break,
        }
    }
    // What the kernel has accepted for us counts as accepted.
    if let Err(error) = connections.serve_backlog(listener) {
        tracing::warn!(protocol, "connections that waited to be accepted are lost: {error}");
    }
    connections.close.send_replace(true);
    while connections.tasks.join_next().await.is_some() {}
}

/// The connections of one port.
struct Connections {
    routes: axum::Router,
    builder: Arc<auto::Builder<TokioExecutor>>,
    tasks: JoinSet<()>,
    close: watch::Sender<bool>,
    grace: Duration,
    lifecycle: watch::Receiver<Lifecycle>,
    io: IoThreads,
}

impl Connections {
    fn new(routes: axum::Router, grace: Duration, lifecycle: watch::Receiver<Lifecycle>, io: IoThreads) -> Self {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http2()
            .max_concurrent_streams(MAX_STREAMS)
            // As many may be cancelled before they are looked at: a burst of deadlines is no attack, and the connection that
            // would be closed carries others' requests too.
            .max_pending_accept_reset_streams(MAX_STREAMS as usize)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME);
        let (builder, close) = (Arc::new(builder), watch::Sender::new(false));
        Connections { routes, builder, tasks: JoinSet::new(), close, grace, lifecycle, io }
    }

    fn serve_backlog(&mut self, listener: TcpListener) -> io::Result<()> {
        let listener = listener.into_std()?;
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true)?;
                    self.serve(stream);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Serves a connection, which is in non-blocking mode.
    fn serve(&mut self, stream: std::net::TcpStream) {
        // Answers are small and awaited; an error here shows on the first read.
        let _ = stream.set_nodelay(true);
        let (routes, lifecycle) = (self.routes.clone(), self.lifecycle.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let keeps_alive = request.version() <= Version::HTTP_11;
            let answering = routes.clone().call(request);
            let lifecycle = lifecycle.clone();
            async move {
                let mut response = answering.await?;
                if keeps_alive && *lifecycle.borrow() == Lifecycle::Draining {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let (builder, mut close, grace) = (self.builder.clone(), self.close.subscribe(), self.grace);
        let connection = async move {
            // Registered with the thread that it will live on.
            let Ok(stream) = TcpStream::from_std(stream) else {
                return;
            };
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            let closing = async {
                // An error would mean that the port is gone, which is as good a reason.
                let _ = close.wait_for(|close| *close).await;
                tokio::time::sleep(grace).await;
            };
            tokio::select! {
                // How a connection ended is the client's affair: it may just have gone.
                _ = connection.as_mut() => return,
                () = closing => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        };
        self.tasks.spawn_on(connection, self.io.next());
    }
}
