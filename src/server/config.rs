//! Configuration of a server: plain values, independent of the command line and of the settings file.

use std::{path::PathBuf, time::Duration};

use crate::{
    config::{ByteSize, Device, Isolation, Listen, ModelControl, QueueTime, Ratio, ReadyWhen},
    registry::MemoryLimit,
};

/// Configuration of a server. [`ServerConfig::of_repository`] has the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// The models.
    pub repository: RepositoryConfig,
    /// Addresses of the ports.
    pub ports: PortAddresses,
    /// Access to the admin API.
    pub admin: AdminConfig,
    /// Loads of versions.
    pub loads: LoadConfig,
    /// Settings of models whose `config.toml` does not give them.
    pub models: ModelDefaults,
    /// Models that must serve before the server is ready.
    pub ready: ReadyWhen,
    /// Limits of clients.
    pub clients: ClientLimits,
    /// The end of the server.
    pub drain: DrainConfig,
    /// Time for which an I/O thread polls for the next request after a lone one; zero: never.
    pub busy_poll: Duration,
    /// The access log, if there is one.
    pub access_log: Option<AccessLogConfig>,
}

/// The model repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryConfig {
    /// A folder of models, the folder of one model, or a model file.
    pub path: PathBuf,
    /// Name of the model if there is one only.
    pub model_name: Option<String>,
    /// Folders outside of the repository that links in it may lead to.
    pub link_targets: Vec<PathBuf>,
    /// File that marks the folder of a version as complete; `None`: no marker is needed.
    pub ready_marker: Option<String>,
}

/// Address of each port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortAddresses {
    /// Inference over HTTP.
    pub http: Listen,
    /// Inference over gRPC.
    pub grpc: Listen,
    /// Prometheus.
    pub metrics: Listen,
    /// The admin API.
    pub admin: Listen,
}

/// Access to the admin API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdminConfig {
    /// File of the tokens that calls have to present; `None`: calls need no token.
    pub token_file: Option<PathBuf>,
    /// True if calls need no token on any address.
    pub is_insecure: bool,
}

/// Loads of versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadConfig {
    /// Folder of the desired state; `None`: a folder of the user's, named after the repository.
    pub state_folder: Option<PathBuf>,
    /// Rule for the versions that are loaded without an admin call.
    pub control: ModelControl,
    /// Interval of the scans of the repository.
    pub poll_interval: Duration,
    /// Time after which a load has failed.
    pub timeout: Duration,
    /// Limit of the memory of all versions, if there is one.
    pub memory: Option<MemoryLimit>,
}

/// Settings of models whose `config.toml` does not give them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelDefaults {
    /// The device.
    pub device: Device,
    /// Time that one run may take; zero: no limit.
    pub max_run_time: Duration,
    /// Bytes that one run may hold; `None`: by the memory that the process may use.
    pub max_run_memory: Option<ByteSize>,
    /// Time that a request may wait in the queue.
    pub max_queue_time: QueueTime,
    /// Process that sessions live in.
    pub isolation: Isolation,
    /// True if files that were never served run in a child process before they are loaded.
    pub has_trials: bool,
}

/// Limits of clients: of requests, connections and memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientLimits {
    /// Size of a gRPC message, uncompressed.
    pub grpc_message: ByteSize,
    /// Size of a body over HTTP, uncompressed.
    pub http_body: ByteSize,
    /// Size of the JSON in a body over HTTP.
    pub http_json: ByteSize,
    /// Size of the headers of a request.
    pub header_bytes: ByteSize,
    /// Headers of a request over HTTP/1.1.
    pub headers: usize,
    /// Size of a path with its query.
    pub uri_bytes: ByteSize,
    /// Open requests of a connection over HTTP/2.
    pub streams: usize,
    /// Open connections; `None`: by the limit of open files.
    pub connections: Option<usize>,
    /// Open connections of one client; `None`: by the limit of all.
    pub connections_per_client: Option<usize>,
    /// Bytes of requests and answers; `None`: by the memory that the process may use.
    pub request_memory: Option<ByteSize>,
    /// Time until the head of a request is complete.
    pub header_timeout: Duration,
    /// Time that a connection over HTTP/1.1 may be idle.
    pub idle_timeout: Duration,
    /// Time without a byte of a body.
    pub body_timeout: Duration,
    /// Time without a byte of an answer read by the client.
    pub write_timeout: Duration,
    /// Bytes per second of a body or an answer.
    pub min_rate: ByteSize,
    /// Interval of the pings of a connection over HTTP/2.
    pub ping_interval: Duration,
}

/// The end of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainConfig {
    /// Time between the end of readiness and the end of accepting.
    pub delay: Duration,
    /// Time for the requests in flight.
    pub timeout: Duration,
}

/// The access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLogConfig {
    /// File of the log; `-` is stdout.
    pub path: PathBuf,
    /// Share of the requests that are logged.
    pub sample: Ratio,
}

impl ServerConfig {
    /// Configuration of a server of the models at a path, with the defaults for everything else.
    pub fn of_repository(path: impl Into<PathBuf>) -> Self {
        ServerConfig {
            repository: RepositoryConfig {
                path: path.into(),
                model_name: None,
                link_targets: Vec::new(),
                ready_marker: None,
            },
            ports: PortAddresses::default(),
            admin: AdminConfig::default(),
            loads: LoadConfig::default(),
            models: ModelDefaults::default(),
            ready: ReadyWhen::All,
            clients: ClientLimits::default(),
            drain: DrainConfig::default(),
            busy_poll: Duration::from_micros(100),
            access_log: None,
        }
    }
}

impl PortAddresses {
    /// Free ports on loopback, for every port.
    pub fn loopback() -> Self {
        let any = || Listen::At("127.0.0.1:0".into());
        PortAddresses { http: any(), grpc: any(), metrics: any(), admin: any() }
    }
}

impl Default for PortAddresses {
    fn default() -> Self {
        let at = |address: &str| Listen::At(address.into());
        PortAddresses {
            http: at("0.0.0.0:8000"),
            grpc: at("0.0.0.0:8001"),
            metrics: at("0.0.0.0:8002"),
            admin: at("127.0.0.1:8003"),
        }
    }
}

impl Default for LoadConfig {
    fn default() -> Self {
        LoadConfig {
            state_folder: None,
            control: ModelControl::Poll,
            poll_interval: Duration::from_secs(10),
            timeout: Duration::from_secs(30 * 60),
            memory: None,
        }
    }
}

impl Default for ModelDefaults {
    fn default() -> Self {
        ModelDefaults {
            device: Device::Auto,
            max_run_time: Duration::from_secs(60),
            max_run_memory: None,
            max_queue_time: QueueTime::Auto,
            isolation: Isolation::Auto,
            has_trials: true,
        }
    }
}

impl Default for ClientLimits {
    fn default() -> Self {
        ClientLimits {
            grpc_message: ByteSize(256 << 20),
            http_body: ByteSize(256 << 20),
            http_json: ByteSize(64 << 20),
            header_bytes: ByteSize(16 << 10),
            headers: 100,
            uri_bytes: ByteSize(8 << 10),
            streams: 1024,
            connections: None,
            connections_per_client: None,
            request_memory: None,
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(5 * 60),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            min_rate: ByteSize(4 << 10),
            ping_interval: Duration::from_secs(60),
        }
    }
}

impl Default for DrainConfig {
    fn default() -> Self {
        DrainConfig { delay: Duration::ZERO, timeout: Duration::from_secs(30) }
    }
}
