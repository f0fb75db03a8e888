//! Limits of clients and runs: configured ones, and defaults by the resources that the process may use.

use super::{
    config::ClientLimits,
    connection_limit::{BEYOND_LIMIT, ConnectionLimitConfig},
    http_limits::HttpLimits,
};
use crate::{
    api::{Budget, Limits},
    config::ByteSize,
    host,
};

/// Descriptors that connections leave to everything else: files of models, epoll, the ports.
const OTHER_DESCRIPTORS: u64 = 256;

/// Memory that is assumed if the system reports none.
const SOME_MEMORY: u64 = 4 << 30;

/// Limits of a client's requests.
pub(super) fn limits(clients: &ClientLimits) -> Limits {
    Limits {
        grpc_message: clients.grpc_message.0,
        http_body: clients.http_body.0,
        http_json: clients.http_json.0,
        body_timeout: clients.body_timeout,
        write_timeout: clients.write_timeout,
        min_rate: clients.min_rate.0,
        budget: Budget::new(request_memory(clients.request_memory)),
    }
}

/// Bytes that may be held for requests.
pub(crate) fn request_memory(setting: Option<ByteSize>) -> usize {
    let usable = || usize::try_from(host::memory().usable().unwrap_or(SOME_MEMORY)).unwrap_or(usize::MAX);
    setting.map_or_else(|| usable() / 4, |ByteSize(bytes)| bytes)
}

/// Memory limits from `--max-run-memory` and `--request-memory`: the bytes of one run, and those of all weights and runs
/// together.
pub(crate) fn run_memory(one_run: Option<ByteSize>, requests: Option<ByteSize>) -> (usize, usize) {
    let usable = usize::try_from(host::memory().usable().unwrap_or(SOME_MEMORY)).unwrap_or(usize::MAX);
    let one_run = one_run.map_or_else(|| default_run_memory(usable), |ByteSize(bytes)| bytes);
    // The code, connections, and the memory of ONNX Runtime beside tensors need room too.
    let rest = (usable - usable / 16).saturating_sub(request_memory(requests));
    (one_run, rest.max(usable / 8))
}

/// Bytes that one run may hold, by the bytes that the process may use. Runs of most models take far less, and several runs at
/// once leave room for everything else.
fn default_run_memory(usable: usize) -> usize {
    const USUAL_RUN_BYTES: usize = 1 << 30;
    (usable / 16).max(USUAL_RUN_BYTES).min(usable / 4)
}

/// Limits of each connection.
pub(super) fn http_limits(clients: &ClientLimits) -> HttpLimits {
    HttpLimits {
        streams: u32::try_from(clients.streams).unwrap_or(u32::MAX),
        header_bytes: clients.header_bytes.0,
        headers: clients.headers,
        uri_bytes: clients.uri_bytes.0,
        header_timeout: clients.header_timeout,
        idle_timeout: clients.idle_timeout,
        write_timeout: clients.write_timeout,
        ping_interval: clients.ping_interval,
    }
}

/// Number of connections that fit into a limit of open files.
pub(crate) fn room_for_connections(files: u64) -> usize {
    usize::try_from(files.saturating_sub(OTHER_DESCRIPTORS + BEYOND_LIMIT)).unwrap_or(usize::MAX).max(16)
}

/// Limit of open connections. Raises the limit of open files as far as the process may.
fn max_connections(clients: &ClientLimits) -> usize {
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024);
    let room = room_for_connections(files);
    let most = clients.connections.unwrap_or(10_000.min(room));
    if most > room {
        tracing::warn!(
            setting = "--max-connections",
            value = most,
            limit = room,
            open_files = files,
            "setting lowered, the limit of open files leaves room for fewer"
        );
    }
    most.min(room)
}

/// Connections that one client may have by default, if that many may be open: a proxy sends the requests of many clients.
const MIN_PER_CLIENT: usize = 1_000;

/// Limits of open connections over HTTP and gRPC, of all clients and of one.
pub(super) fn place_limits(clients: &ClientLimits) -> ConnectionLimitConfig {
    let total = max_connections(clients);
    let per_client = clients.connections_per_client.unwrap_or((total / 2).max(MIN_PER_CLIENT));
    ConnectionLimitConfig { total, per_client: per_client.min(total), health: true }
}
