//! Settings of the server: options, variables of the environment, and keys of a file.

use clap::{Args, ValueEnum};
use std::{path::PathBuf, time::Duration};

use super::{
    isolation::IsolationSettings,
    values::{busy_poll, count, device, duration, file_name, log_level, pause, queue_time, size, timeout},
};
use crate::config::{ByteSize, Device, Folders, Listen, ModelControl, QueueTime, Ratio, ReadyWhen};

/// The settings of a server and the file that they may come from.
#[derive(Debug, Args)]
pub struct Sources {
    /// Settings in TOML, under the names of the long options with underscores (http = "0.0.0.0:8000"). Without it no file is
    /// read.
    #[arg(long, value_name = "FILE", env = "ONNXD_CONFIG")]
    pub config: Option<PathBuf>,

    /// The settings.
    #[command(flatten)]
    pub settings: Settings,
}

/// Settings of the server. Each is an option, an environment variable, and a key of the configuration file. Their documentation
/// and their default everywhere come from here.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Settings {
    /// Address for HTTP: HOST:PORT (port 0 picks a free one), or off.
    #[arg(long, value_name = "ADDR", env = "ONNXD_HTTP", default_value = "0.0.0.0:8000")]
    pub http: Listen,

    /// Address for gRPC: HOST:PORT, or off.
    #[arg(long, value_name = "ADDR", env = "ONNXD_GRPC", default_value = "0.0.0.0:8001")]
    pub grpc: Listen,

    /// Address where Prometheus finds /metrics: HOST:PORT, or off.
    #[arg(long, value_name = "ADDR", env = "ONNXD_METRICS", default_value = "0.0.0.0:8002")]
    pub metrics: Listen,

    /// Address for admin calls over gRPC and HTTP alike: HOST:PORT, or off. Every client that reaches it may change the served
    /// models, so an address that is not loopback needs --admin-token-file.
    #[arg(long, value_name = "ADDR", env = "ONNXD_ADMIN", default_value = "127.0.0.1:8003")]
    pub admin: Listen,

    /// File of tokens, one of which every admin call must send as `Authorization: Bearer TOKEN`. Each line holds TOKEN, or
    /// NAME:TOKEN (the name is then recorded as the author of a change). Changes of the file take effect at once. Health,
    /// reflection and the description of the API take no token.
    #[arg(long, value_name = "FILE", env = "ONNXD_ADMIN_TOKEN_FILE")]
    pub admin_token_file: Option<PathBuf>,

    /// Answer admin calls without a token on any address and by any name. Something else must then restrict access. Without
    /// this and without tokens, calls must name localhost or an IP address as their host, which web pages can't.
    #[arg(long, env = "ONNXD_ADMIN_INSECURE", default_value_t = false)]
    pub admin_insecure: bool,

    /// Folder for the changes that admin calls make; created at the first change. Without it: a folder named after the
    /// repository in $XDG_STATE_HOME/onnxd, else in ~/.local/state/onnxd, else in /var/lib/onnxd.
    #[arg(long, value_name = "DIR", env = "ONNXD_STATE_DIR")]
    pub state_dir: Option<PathBuf>,

    /// Policy for loading versions where no admin call decides: none (those in the repository at the start), poll (changes of
    /// the repository are followed), or explicit (only admin calls load).
    #[arg(long, value_name = "MODE", env = "ONNXD_MODEL_CONTROL", default_value = "poll")]
    pub model_control: ModelControl,

    /// Condition for readiness (/v2/health/ready, ServerReady, grpc.health, `onnxd health`): all (every model that was to be
    /// loaded at the start has a READY version), any (one model has), or started (the first loads are over). A model that comes
    /// later counts once it has been READY. A model that an admin call unloads does not count. An empty repository is ready.
    #[arg(long, value_name = "WHEN", env = "ONNXD_READY", default_value = "all")]
    pub ready: ReadyWhen,

    /// Name of the model where there is only one: of DIR, if that is a model's folder or an .onnx file, else of the only model
    /// in it. Without it: the name of the folder, or of the file without .onnx.
    #[arg(long, alias = "model_name", value_name = "NAME", env = "ONNXD_MODEL_NAME", value_parser = file_name)]
    pub model_name: Option<String>,

    /// Folders outside of the repository that links in it may lead to: DIR, or DIR,DIR. A model file, weights, config.toml, test
    /// case or manifest that a link takes from anywhere else is refused. Links within the repository always work.
    #[arg(long, value_name = "DIRS", env = "ONNXD_ALLOW_LINKS_TO")]
    pub allow_links_to: Option<Folders>,

    /// A version with a folder of its own counts only once that holds a file of this name, to be written last.
    #[arg(long, value_name = "NAME", env = "ONNXD_READY_MARKER", value_parser = file_name)]
    pub ready_marker: Option<String>,

    /// Device of models whose config.toml names no device: auto (NVIDIA GPUs where they work, else the CPU), cpu, cuda (every
    /// GPU) or cuda:0 (that one), tensorrt or tensorrt:0; and openvino, migraphx, coreml or xnnpack, where the library of ONNX
    /// Runtime has it. An unavailable device does not keep the server from starting: only the models that need it fail to load,
    /// and their errors name the missing part.
    #[arg(long, value_name = "DEVICE", env = "ONNXD_DEVICE", default_value = "auto", value_parser = device)]
    pub device: Device,

    /// Time that one run may take, for models whose config.toml has no max_run_time. A longer run is stopped, and its requests
    /// get DEADLINE_EXCEEDED (504). A run that can't be stopped takes the version out of service. 0s: for ever.
    #[arg(long, value_name = "DURATION", env = "ONNXD_MAX_RUN_TIME", default_value = "60s", value_parser = duration)]
    pub max_run_time: Duration,

    /// Time that a load may take, with its checks and first runs. A load that takes longer has failed, and the server stops
    /// waiting for it. The longest loads are those of TensorRT, which builds engines.
    #[arg(long, value_name = "DURATION", env = "ONNXD_LOAD_TIMEOUT", default_value = "30m", value_parser = timeout)]
    pub load_timeout: Duration,

    /// Worker processes.
    #[command(flatten)]
    pub isolation: IsolationSettings,

    /// Memory that the weights of versions may take together. Before a load, the files' size counts for each session; after it,
    /// the memory that the sessions hold. A version that has no room is not loaded. Without it there is no limit.
    #[arg(long, value_name = "SIZE", env = "ONNXD_MODEL_MEMORY", value_parser = size)]
    pub model_memory: Option<ByteSize>,

    /// Action where a version has no room beside the generation that it replaces: refuse (the old generation goes on serving),
    /// or unload-first (nothing answers for the version until it is loaded; if its new files can't be loaded, until they are
    /// mended).
    #[arg(
        long,
        value_name = "WHAT",
        env = "ONNXD_MODEL_MEMORY_FULL",
        default_value = "refuse",
        hide_possible_values = true
    )]
    pub model_memory_full: MemoryFull,

    /// Interval between polls of the repository, beside those after a notification of the operating system. Network file
    /// systems send no notifications. A change is applied once two polls agree; they are 1s apart, or this interval if it is
    /// shorter.
    #[arg(long, value_name = "DURATION", env = "ONNXD_POLL_INTERVAL", default_value = "10s", value_parser = pause)]
    pub poll_interval: Duration,

    /// Time to go on accepting clients after a signal, with readiness off, so that load balancers notice.
    #[arg(long, value_name = "DURATION", env = "ONNXD_DRAIN_DELAY", default_value = "0s", value_parser = duration)]
    pub drain_delay: Duration,

    /// Time that requests in flight may take to finish after --drain-delay. If they take longer, the exit code is 1.
    #[arg(long, value_name = "DURATION", env = "ONNXD_DRAIN_TIMEOUT", default_value = "30s", value_parser = duration)]
    pub drain_timeout: Duration,

    /// Time for which a request may wait in a model's queue, for models whose config.toml does not set it: auto (2s, or 20 runs
    /// of one request, or 4 of the longest recent runs, whichever is longest), none, or a duration. A request is refused at
    /// once if its predicted wait is longer, and dropped once its wait has been longer (RESOURCE_EXHAUSTED, 429).
    #[arg(long, value_name = "DURATION", env = "ONNXD_MAX_QUEUE_TIME", default_value = "auto", value_parser = queue_time)]
    pub max_queue_time: QueueTime,

    /// Size of a gRPC message at most, unpacked.
    #[arg(long, value_name = "SIZE", env = "ONNXD_MAX_GRPC_MESSAGE", default_value = "256MiB", value_parser = size)]
    pub max_grpc_message: ByteSize,

    /// Size of an HTTP request's body at most, unpacked, binary tensors included.
    #[arg(long, value_name = "SIZE", env = "ONNXD_MAX_HTTP_BODY", default_value = "256MiB", value_parser = size)]
    pub max_http_body: ByteSize,

    /// Size of the JSON in an HTTP request at most.
    #[arg(long, value_name = "SIZE", env = "ONNXD_MAX_HTTP_JSON", default_value = "64MiB", value_parser = size)]
    pub max_http_json: ByteSize,

    /// Size of a request's headers (metadata) at most.
    #[arg(long, value_name = "SIZE", env = "ONNXD_MAX_HEADER_BYTES", default_value = "16KiB", value_parser = size)]
    pub max_header_bytes: ByteSize,

    /// Number of headers of an HTTP/1.1 request at most.
    #[arg(long, value_name = "COUNT", env = "ONNXD_MAX_HEADERS", default_value = "100", value_parser = count)]
    pub max_headers: usize,

    /// Length of a request's path and query at most.
    #[arg(long, value_name = "SIZE", env = "ONNXD_MAX_URI_BYTES", default_value = "8KiB", value_parser = size)]
    pub max_uri_bytes: ByteSize,

    /// Requests that may be open at once on one HTTP/2 connection.
    #[arg(long, value_name = "COUNT", env = "ONNXD_MAX_STREAMS", default_value = "1024", value_parser = count)]
    pub max_streams: usize,

    /// Connections over HTTP and gRPC that may be open at once. One more connection closes the one that has been idle for the
    /// longest, at least a second. If none is idle, the new connection answers health checks and metadata only, and refuses the
    /// rest (RESOURCE_EXHAUSTED, 503). Without it: 10000, or the number that the limit of open files leaves.
    #[arg(long, value_name = "COUNT", env = "ONNXD_MAX_CONNECTIONS", value_parser = count)]
    pub max_connections: Option<usize>,

    /// Connections over HTTP and gRPC that one client may have open at once, by its address (IPv6: by its network of 64 bits).
    /// One more is treated as beyond --max-connections. Behind a proxy all clients have its address. Without it: half of
    /// --max-connections, but at least 1000.
    #[arg(long, value_name = "COUNT", env = "ONNXD_MAX_CONNECTIONS_PER_CLIENT", value_parser = count)]
    pub max_connections_per_client: Option<usize>,

    /// Memory for requests from their first byte until they are answered, and for answers until they are written. While it is
    /// full, requests are refused (RESOURCE_EXHAUSTED, 429). Without it: a quarter of the memory that the process may use.
    #[arg(long, value_name = "SIZE", env = "ONNXD_REQUEST_MEMORY", value_parser = size)]
    pub request_memory: Option<ByteSize>,

    /// Memory that one run may hold on the host: its tensors and its answer, not its inputs. A request whose run needs more is
    /// refused (RESOURCE_EXHAUSTED, 429); max_run_memory in a model's config.toml overrides it. Without it: a sixteenth of the
    /// memory that the process may use, or 1 GiB where that is more, and a quarter at most. All weights and runs together hold
    /// at most the memory that the process may use, less --request-memory and a sixteenth.
    #[arg(long, value_name = "SIZE", env = "ONNXD_MAX_RUN_MEMORY", value_parser = size)]
    pub max_run_memory: Option<ByteSize>,

    /// Time for the head of a request to arrive, from its first byte or from when the client connects.
    #[arg(long, value_name = "DURATION", env = "ONNXD_HEADER_TIMEOUT", default_value = "30s", value_parser = timeout)]
    pub header_timeout: Duration,

    /// Time for which an HTTP/1.1 connection may be idle between requests. HTTP/2 connections may be idle for ever: they are
    /// pinged.
    #[arg(long, value_name = "DURATION", env = "ONNXD_IDLE_TIMEOUT", default_value = "5m", value_parser = timeout)]
    pub idle_timeout: Duration,

    /// Time for which a request's body may stall, and time that it may take beyond the time that --min-rate grants.
    #[arg(long, value_name = "DURATION", env = "ONNXD_BODY_TIMEOUT", default_value = "30s", value_parser = timeout)]
    pub body_timeout: Duration,

    /// Time for which a client may read nothing of an answer, and time that reading may take beyond the time that --min-rate
    /// grants.
    #[arg(long, value_name = "DURATION", env = "ONNXD_WRITE_TIMEOUT", default_value = "30s", value_parser = timeout)]
    pub write_timeout: Duration,

    /// Least rate, per second, at which a client must send a body and read an answer.
    #[arg(long, value_name = "SIZE", env = "ONNXD_MIN_RATE", default_value = "4KiB", value_parser = size)]
    pub min_rate: ByteSize,

    /// Interval between pings of an HTTP/2 connection. A client that does not answer within 20s has gone.
    #[arg(long, value_name = "DURATION", env = "ONNXD_PING_INTERVAL", default_value = "60s", value_parser = timeout)]
    pub ping_interval: Duration,

    /// Time for which a thread that has answered a lone request polls for the next one before it sleeps, which saves waking it
    /// up. It polls only while requests come that soon and nothing else wants the CPU. It never polls on a machine with one
    /// CPU, or under a control group's limit of CPU time. 0s: never; at most 1ms.
    #[arg(long, value_name = "DURATION", env = "ONNXD_BUSY_POLL", default_value = "100us", value_parser = busy_poll)]
    pub busy_poll: Duration,

    /// Access log of inferences, one JSON object per line: a file, which may be moved away while the server runs, or - for
    /// stdout. Without it there is no access log.
    #[arg(long, value_name = "FILE", env = "ONNXD_ACCESS_LOG")]
    pub access_log: Option<PathBuf>,

    /// Fraction of the inferences that the access log records, from 0 to 1. It records more of those that fail: up to 100 a
    /// second that are the client's fault, and up to 100 that are not.
    #[arg(long, value_name = "RATIO", env = "ONNXD_ACCESS_LOG_SAMPLE", default_value = "1")]
    pub access_log_sample: Ratio,

    /// Format of log lines on stderr: text for people, or json, one object per line.
    #[arg(long, value_name = "FORMAT", env = "ONNXD_LOG_FORMAT", default_value = "text", hide_possible_values = true)]
    pub log_format: LogFormatArg,

    /// Least level that is logged: error, warn, info, debug, trace, or per target such as warn,onnxd=debug.
    #[arg(long, value_name = "LEVEL", env = "ONNXD_LOG_LEVEL", default_value = "info", value_parser = log_level)]
    pub log_level: String,
}

/// Action where a version has no room beside the generation that it replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MemoryFull {
    /// The version is not loaded.
    Refuse,
    /// The old generation is unloaded first.
    UnloadFirst,
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormatArg {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}
