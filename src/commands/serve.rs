//! `onnxd serve`: a server from its settings until a signal ends the process.

use std::{path::Path, process::ExitCode};

use super::cli::{MemoryFull, Settings, Trial, UnknownVariable};
use crate::{
    config::Folders,
    registry::MemoryLimit,
    server::{
        self, AccessLogConfig, AdminConfig, ClientLimits, DrainConfig, LoadConfig, LogConfig, LogFormat, ModelDefaults,
        PortAddresses, RepositoryConfig, ServerConfig,
    },
};

/// Serves the models at a path until a signal comes, and warns of unknown environment variables. Returns the exit code of an
/// orderly end.
///
/// # Errors
/// The server can't start; the message says why and what to do.
pub fn serve(path: &Path, settings: &Settings, unknown: &[UnknownVariable]) -> Result<ExitCode, String> {
    let console = server::start_log(&log_config(settings))?;
    for UnknownVariable { name, nearest } in unknown {
        let hint = nearest.as_ref().map(|nearest| format!("did you mean {nearest}?"));
        tracing::warn!(variable = name, hint, "unknown environment variable ignored");
    }
    server::run(server_config(path, settings), &console)
}

fn log_config(settings: &Settings) -> LogConfig {
    let format = match settings.log_format {
        super::cli::LogFormatArg::Text => LogFormat::Text,
        super::cli::LogFormatArg::Json => LogFormat::Json,
    };
    LogConfig { format, level: settings.log_level.clone() }
}

/// The configuration that settings give for a server of the models at a path.
pub(super) fn server_config(path: &Path, settings: &Settings) -> ServerConfig {
    let memory = settings
        .model_memory
        .map(|bytes| MemoryLimit { bytes, unload_first: settings.model_memory_full == MemoryFull::UnloadFirst });
    let access_log = settings.access_log.clone();
    ServerConfig {
        repository: RepositoryConfig {
            path: path.into(),
            model_name: settings.model_name.clone(),
            link_targets: Folders::of(settings.allow_links_to.as_ref()).to_vec(),
            ready_marker: settings.ready_marker.clone(),
        },
        ports: PortAddresses {
            http: settings.http.clone(),
            grpc: settings.grpc.clone(),
            metrics: settings.metrics.clone(),
            admin: settings.admin.clone(),
        },
        admin: AdminConfig { token_file: settings.admin_token_file.clone(), is_insecure: settings.admin_insecure },
        loads: LoadConfig {
            state_folder: settings.state_dir.clone(),
            control: settings.model_control,
            poll_interval: settings.poll_interval,
            timeout: settings.load_timeout,
            memory,
        },
        models: ModelDefaults {
            device: settings.device,
            max_run_time: settings.max_run_time,
            max_run_memory: settings.max_run_memory,
            max_queue_time: settings.max_queue_time,
            isolation: settings.isolation.isolation,
            has_trials: settings.isolation.trial == Trial::On,
        },
        ready: settings.ready,
        clients: client_limits(settings),
        drain: DrainConfig { delay: settings.drain_delay, timeout: settings.drain_timeout },
        busy_poll: settings.busy_poll,
        access_log: access_log.map(|path| AccessLogConfig { path, sample: settings.access_log_sample }),
    }
}

fn client_limits(settings: &Settings) -> ClientLimits {
    ClientLimits {
        grpc_message: settings.max_grpc_message,
        http_body: settings.max_http_body,
        http_json: settings.max_http_json,
        header_bytes: settings.max_header_bytes,
        headers: settings.max_headers,
        uri_bytes: settings.max_uri_bytes,
        streams: settings.max_streams,
        connections: settings.max_connections,
        connections_per_client: settings.max_connections_per_client,
        request_memory: settings.request_memory,
        header_timeout: settings.header_timeout,
        idle_timeout: settings.idle_timeout,
        body_timeout: settings.body_timeout,
        write_timeout: settings.write_timeout,
        min_rate: settings.min_rate,
        ping_interval: settings.ping_interval,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::cli::{Cli, Command};
    use clap::Parser as _;

    #[test]
    fn command_line_defaults_match_the_server_config() {
        let Command::Serve(serve) = Cli::parse_from(["onnxd", "serve", "models"]).command else { unreachable!() };
        let config = server_config(&serve.repository, &serve.sources.settings);
        assert_eq!(config, ServerConfig::of_repository("models"));
    }
}
