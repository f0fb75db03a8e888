//! Ports: accept connections, and close them in order.

use std::{
    io,
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
    activity::ConnectionActivity,
    backlog,
    connection::{Peer, PortConfig},
    connection_limit::{ConnectionAdmission, ConnectionLimit},
    io_threads::IoThreads,
};

/// An open port. It serves HTTP/1.1 and HTTP/2 without TLS; the client's first bytes select the protocol.
pub(super) struct Port {
    close: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Least time between two log lines about failed accepts, which may happen many times a second.
const QUIET: Duration = Duration::from_secs(10);

impl Port {
    /// Serves connections on the port by these terms, as far as there are places. When the port closes, clients have `grace` to
    /// end their connections themselves.
    pub(super) fn open(
        protocol: &'static str,
        listener: TcpListener,
        terms: PortConfig,
        places: Arc<ConnectionLimit>,
        grace: Duration,
        io: IoThreads,
    ) -> Self {
        let (close, closing) = oneshot::channel();
        let connections =
            Connections { terms, places, tasks: JoinSet::new(), close: watch::Sender::new(false), grace, io };
        let task = tokio::spawn(run(protocol, listener, connections, closing));
        Port { close, task }
    }

    /// Stops accepting and waits until every connection has ended.
    pub(super) async fn close(self) {
        let _ = self.close.send(());
        // A panic of the task has been logged; the port is closed all the same.
        let _ = self.task.await;
    }
}

async fn run(
    protocol: &'static str,
    listener: TcpListener,
    mut connections: Connections,
    mut closing: oneshot::Receiver<()>,
) {
    let mut logged_at: Option<Instant> = None;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, client)) => match stream.into_std() {
                    Ok(stream) => connections.serve(stream, client),
                    Err(error) => tracing::warn!(protocol, %error, "connection lost"),
                },
                Err(error) => {
                    // Most likely the process has no descriptors left. That passes when connections end, and must not become a
                    // busy loop.
                    if logged_at.is_none_or(|logged_at| logged_at.elapsed() >= QUIET) {
                        tracing::warn!(protocol, %error, "connection can't be accepted");
                        logged_at = Some(Instant::now());
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.tasks.join_next() => {}
            _ = &mut closing => break,
        }
    }
    if let Err(error) = backlog::empty(listener, |stream, client| connections.serve(stream, client)).await {
        tracing::warn!(protocol, %error, "connections lost that waited to be accepted");
    }
    connections.close.send_replace(true);
    while connections.tasks.join_next().await.is_some() {}
}

/// The connections of one port.
struct Connections {
    terms: PortConfig,
    places: Arc<ConnectionLimit>,
    tasks: JoinSet<()>,
    close: watch::Sender<bool>,
    grace: Duration,
    io: IoThreads,
}

impl Connections {
    /// Serves a connection of a client, which is in non-blocking mode.
    fn serve(&mut self, stream: std::net::TcpStream, client: SocketAddr) {
        // The same client may connect by IPv4 to a socket of IPv6.
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        // Answers are small, and clients wait for them. An error here shows on the first read.
        let _ = stream.set_nodelay(true);
        let activity = Arc::new(ConnectionActivity::default());
        let (place, health_only) = match ConnectionLimit::admit(&self.places, client.ip(), &activity) {
            ConnectionAdmission::ConnectionPermit(place) => (place, None),
            ConnectionAdmission::HealthOnly(place, full) => (place, Some(full)),
            ConnectionAdmission::Refused => return,
        };
        let peer = Peer { client, activity, health_only };
        let (terms, mut close, grace) = (self.terms.clone(), self.close.subscribe(), self.grace);
        let connection = async move {
            let closing = async {
                // An error would mean that the port is gone, which is a reason to close too.
                let _ = close.wait_for(|close| *close).await;
                tokio::time::sleep(grace).await;
            };
            terms.serve(accept(stream), peer, closing).await;
            drop(place);
        };
        self.tasks.spawn_on(connection, self.io.next());
    }
}

/// Makes the stream of a connection, on the thread that serves it. A TLS handshake belongs here: the limits of a connection hold
/// for it already, and it shares the header timeout with the first request.
async fn accept(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    // Registers the stream with the runtime of this thread.
    TcpStream::from_std(stream)
}
