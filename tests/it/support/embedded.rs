//! A server in this process, for tests that only make requests.

use onnxd::server::{PortAddresses, Server, ServerConfig};
use std::{net::SocketAddr, path::Path, time::Duration};
use tempfile::TempDir;
use tokio::time::timeout;

use super::{client::Ports, server::WAIT_TIMEOUT};

/// A running server. Its ports close when it is dropped.
pub struct Embedded {
    pub http: SocketAddr,
    grpc: SocketAddr,
    metrics: SocketAddr,
    admin: SocketAddr,
    _server: Server,
    _state: TempDir,
}

impl Embedded {
    /// Starts a server on a repository, and waits until all its models serve.
    pub async fn start(repository: &Path) -> Self {
        let state = TempDir::new().unwrap();
        let server = Server::start(config(repository, &state)).await.unwrap();
        timeout(WAIT_TIMEOUT, server.ready()).await.expect("the server is not ready");
        let addresses = *server.addresses();
        Embedded {
            http: addresses.http.unwrap(),
            grpc: addresses.grpc.unwrap(),
            metrics: addresses.metrics.unwrap(),
            admin: addresses.admin.unwrap(),
            _server: server,
            _state: state,
        }
    }
}

impl Ports for Embedded {
    fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    fn metrics(&self) -> SocketAddr {
        self.metrics
    }

    fn admin(&self) -> SocketAddr {
        self.admin
    }
}

/// Configuration with free ports on loopback, and a state folder of its own.
pub fn config(repository: &Path, state: &TempDir) -> ServerConfig {
    let mut config = ServerConfig { ports: PortAddresses::loopback(), ..ServerConfig::of_repository(repository) };
    config.loads.state_folder = Some(state.path().into());
    config.loads.poll_interval = Duration::from_millis(50);
    // A trial runs the executable of this process again, which is the tests'.
    config.models.has_trials = false;
    config
}
