use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
    task::{JoinHandle, JoinSet},
};

use super::{backlog, connection::Terms, io::IoThreads};
use crate::metrics::TransportMetrics;

/// An open port: HTTP/1.1 and HTTP/2 without TLS, whichever the client begins with.
pub(super) struct Door {
    close: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// How often it is told at most that connections can't be accepted, or are refused, which may happen many times a second.
const QUIET: Duration = Duration::from_secs(10);

impl Door {
    /// Serves connections on the port by these terms, as far as there are places. When it closes, they are given `grace` to
    /// end by themselves.
    pub(super) fn open(
        protocol: &'static str,
        listener: TcpListener,
        terms: Terms,
        places: Arc<Places>,
        grace: Duration,
        io: IoThreads,
    ) -> Self {
        let (close, closing) = oneshot::channel();
        let connections =
            Connections { terms, places, tasks: JoinSet::new(), close: watch::Sender::new(false), grace, io };
        let task = tokio::spawn(run(protocol, listener, connections, closing));
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
                Ok((stream, client)) => match stream.into_std() {
                    Ok(stream) => connections.serve(stream, client),
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
    if let Err(error) = backlog::empty(listener, |stream, client| connections.serve(stream, client)).await {
        tracing::warn!(protocol, "connections that waited to be accepted are lost: {error}");
    }
    connections.close.send_replace(true);
    while connections.tasks.join_next().await.is_some() {}
}

/// The connections of one port.
struct Connections {
    terms: Terms,
    places: Arc<Places>,
    tasks: JoinSet<()>,
    close: watch::Sender<bool>,
    grace: Duration,
    io: IoThreads,
}

impl Connections {
    /// Serves a connection of a client, which is in non-blocking mode.
    fn serve(&mut self, stream: std::net::TcpStream, client: SocketAddr) {
        // The same client may come by IPv4 to a socket of IPv6.
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        // Answers are small and awaited; an error here shows on the first read.
        let _ = stream.set_nodelay(true);
        let Some(place) = Places::take(&self.places) else { return };
        let (terms, mut close, grace) = (self.terms.clone(), self.close.subscribe(), self.grace);
        let connection = async move {
            // Registered with the thread that it will live on.
            let Ok(stream) = TcpStream::from_std(stream) else {
                return;
            };
            let closing = async {
                // An error would mean that the port is gone, which is as good a reason.
                let _ = close.wait_for(|close| *close).await;
                tokio::time::sleep(grace).await;
            };
            terms.serve(stream, client, closing).await;
            drop(place);
        };
        self.tasks.spawn_on(connection, self.io.next());
    }
}

/// Places for connections, of one port or of several.
pub(super) struct Places {
    most: usize,
    taken: AtomicUsize,
    /// Where they are counted, if they are.
    metrics: Option<TransportMetrics>,
    told: Mutex<Option<Instant>>,
}

/// The place of a connection.
struct Place(Arc<Places>);

impl Places {
    pub(super) fn new(most: usize, metrics: Option<TransportMetrics>) -> Arc<Self> {
        Arc::new(Places { most, taken: AtomicUsize::new(0), metrics, told: Mutex::default() })
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }

    fn take(places: &Arc<Places>) -> Option<Place> {
        if places.taken.fetch_add(1, Relaxed) >= places.most {
            places.taken.fetch_sub(1, Relaxed);
            places.refuse();
            return None;
        }
        if let Some(metrics) = &places.metrics {
            metrics.opened();
        }
        Some(Place(places.clone()))
    }

    fn refuse(&self) {
        if let Some(metrics) = &self.metrics {
            metrics.refused();
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= QUIET) {
            tracing::warn!("a connection is refused: {} are open (--max-connections)", self.most);
            *told = Some(Instant::now());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
        if let Some(metrics) = &self.0.metrics {
            metrics.ended();
        }
    }
}
