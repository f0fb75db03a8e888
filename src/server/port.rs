//! Ports: accepts connections, and closes them in order.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
    task::{JoinHandle, JoinSet},
};

use super::{
    activity::Activity,
    backlog,
    connection::{Peer, Terms},
    connection_limit::{Admission, Places},
    io_threads::IoThreads,
};

/// An open port: HTTP/1.1 and HTTP/2 without TLS, whichever the client begins with.
pub(super) struct Door {
    close: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// How often it is logged at most that connections can't be accepted, which may happen many times a second.
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
        let activity = Arc::new(Activity::default());
        let (place, health_only) = match Places::admit(&self.places, client.ip(), &activity) {
            Admission::Place(place) => (place, None),
            Admission::HealthOnly(place, full) => (place, Some(full)),
            Admission::Refused => return,
        };
        let peer = Peer { client, activity, health_only };
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
            terms.serve(stream, peer, closing).await;
            drop(place);
        };
        self.tasks.spawn_on(connection, self.io.next());
    }
}
