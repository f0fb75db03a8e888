//! The ports of a server: opened together, closed together.

use std::{
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpListener, runtime::Handle, task::JoinSet};

use super::{
    addresses,
    config::ServerConfig,
    connection::PortConfig,
    connection_limit::{ConnectionLimit, ConnectionLimitConfig},
    derived_limits,
    io_threads::IoThreads,
    port::Port,
};
use crate::{
    api::{Context, Service},
    config::{ByteSize, Listen},
    metrics::TransportMetrics,
};

/// Time for clients with idle HTTP/1.1 connections to send one more request when the server closes. The answer announces that the
/// connection closes. Closing at once could meet a request on its way.
const KEEP_ALIVE_GRACE: Duration = Duration::from_secs(1);

/// Connections to the metrics port at most.
const MAX_METRICS_CONNECTIONS: usize = 64;

/// Connections to the admin port at most.
const MAX_ADMIN_CONNECTIONS: usize = 256;

/// Sockets that listen already, to be used instead of addresses.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Inference over HTTP.
    pub http: Option<StdListener>,
    /// Inference over gRPC.
    pub grpc: Option<StdListener>,
    /// Prometheus.
    pub metrics: Option<StdListener>,
    /// The admin API.
    pub admin: Option<StdListener>,
}

/// Addresses that the ports of a server are bound to; `None` where a port is off.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Inference over HTTP.
    pub http: Option<SocketAddr>,
    /// Inference over gRPC.
    pub grpc: Option<SocketAddr>,
    /// Prometheus.
    pub metrics: Option<SocketAddr>,
    /// The admin API.
    pub admin: Option<SocketAddr>,
}

/// Opens a port for each protocol that is not off, and logs its address.
pub(super) async fn open(
    sockets: Sockets,
    config: &ServerConfig,
    context: &Context,
    places: &Arc<ConnectionLimit>,
    transport: &TransportMetrics,
    [http, grpc, metrics, admin]: [Service; 4],
    io: &IoThreads,
) -> Result<(Addresses, Vec<Port>), String> {
    let ConnectionLimitConfig { total, per_client, .. } = places.limits();
    let (max_run_memory, _) = derived_limits::run_memory(config.models.max_run_memory, config.clients.request_memory);
    tracing::info!(
        request_memory = %ByteSize(context.limits.budget.limit()),
        max_run_memory = %ByteSize(max_run_memory),
        max_connections = total,
        max_connections_per_client = per_client,
        "limits"
    );
    // Limits of their own: clients that fill the server lock out neither Prometheus nor an operator.
    let of = |total| ConnectionLimit::new(ConnectionLimitConfig { total, per_client: total, health: false }, None);
    let (scrapers, admins) = (of(MAX_METRICS_CONNECTIONS), of(MAX_ADMIN_CONNECTIONS));
    // On the caller's runtime: no inference waits for the work of an admin call.
    let here = IoThreads::on(Handle::current());
    let services: [(Service, Duration, &Arc<ConnectionLimit>, &IoThreads); 4] = [
        (http, KEEP_ALIVE_GRACE, places, io),
        (grpc, Duration::ZERO, places, io),
        (metrics, Duration::ZERO, &scrapers, &here),
        (admin, Duration::ZERO, &admins, &here),
    ];
    let given = [sockets.http, sockets.grpc, sockets.metrics, sockets.admin];
    let mut listeners = Vec::new();
    for (((protocol, configured), given), service) in
        addresses::ports(&config.ports).into_iter().zip(given).zip(services)
    {
        let Some((address, listener)) = listener(protocol, configured, given).await? else { continue };
        let bound = listener.local_addr().map_err(|error| addresses::unbound(protocol, &address, &error))?;
        addresses::guarded(protocol, &address, bound.ip(), &config.admin)?;
        tracing::info!(protocol, address = %bound, "listening");
        listeners.push((protocol, bound, listener, service));
    }
    let bound: Vec<_> = listeners.iter().map(|(protocol, bound, ..)| (*protocol, *bound)).collect();
    let address = |name| bound.iter().find(|(protocol, _)| *protocol == name).map(|(_, address)| *address);
    let addresses = Addresses {
        http: address("http"),
        grpc: address("grpc"),
        metrics: address("metrics"),
        admin: address("admin"),
    };
    // Set before the first port answers.
    context.ports.set(bound);
    let limits = Arc::new(derived_limits::http_limits(&config.clients));
    let open = |(protocol, _, listener, (service, grace, places, io)): (
        _,
        _,
        _,
        (_, _, &Arc<ConnectionLimit>, &IoThreads),
    )| {
        let terms = PortConfig::new(service, limits.clone(), context.phase.clone(), transport.clone());
        Port::open(protocol, listener, terms, places.clone(), grace, io.clone())
    };
    Ok((addresses, listeners.into_iter().map(open).collect()))
}

/// The listener of a port with its address as text; `None` if the port is off.
async fn listener(
    protocol: &str,
    configured: &Listen,
    given: Option<StdListener>,
) -> Result<Option<(String, TcpListener)>, String> {
    if let Some(socket) = given {
        let wrong = |error| addresses::unbound(protocol, "the given socket", &error);
        socket.set_nonblocking(true).map_err(wrong)?;
        return Ok(Some(("the given socket".into(), TcpListener::from_std(socket).map_err(wrong)?)));
    }
    let Listen::At(address) = configured else { return Ok(None) };
    let bound = TcpListener::bind(address).await.map_err(|error| addresses::unbound(protocol, address, &error))?;
    Ok(Some((address.clone(), bound)))
}

/// Closes every port and waits for the requests in flight. False if they did not end in time.
pub(super) async fn close(ports: Vec<Port>, limit: Duration) -> bool {
    let mut closing = JoinSet::new();
    for port in ports {
        closing.spawn(port.close());
    }
    let closed = async { while closing.join_next().await.is_some() {} };
    let in_time = tokio::time::timeout(limit, closed).await.is_ok();
    if !in_time {
        tracing::error!(setting = "--drain-timeout", ?limit, "drain timeout reached, requests in flight are cut off");
    }
    in_time
}
