//! The command line, and the settings that it, the environment and a file give.

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{fs, path::PathBuf, time::Duration};

use crate::config::Listen;

/// Serve ONNX models over the Open Inference Protocol, gRPC and HTTP, with dynamic batching.
#[derive(Debug, Parser)]
#[command(name = "onnxd", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the models of a repository.
    ///
    /// DIR holds one folder per model with its versions (DIR/MODEL/VERSION/model.onnx or DIR/MODEL/VERSION.onnx), or just files
    /// (DIR/MODEL.onnx, which is version 1). Changes in it are followed while the server runs. A model's folder may hold a
    /// config.toml.
    ///
    /// SIGTERM or SIGINT ends it gracefully: readiness goes off, requests in flight are finished, exit code 0. A second
    /// signal ends it at once.
    #[command(
        after_help = "Example:\n  onnxd serve models --http 127.0.0.1:8000 --grpc off\n  curl -s localhost:8000/v2/models/purchase"
    )]
    Serve(Box<Serve>),

    /// Load models exactly as the server would, without serving them, and say what was found.
    ///
    /// PATH is a repository, a model's folder, a version's folder, or an .onnx file. Every version is loaded with its model's
    /// config.toml, verified against its SHA256SUMS, probed and held to its test cases. Nothing is written and no port is
    /// opened.
    ///
    /// The exit code is 0 where everything would serve, 1 where something would not, 2 where the command line is wrong.
    #[command(
        after_long_help = "With --json, one document: ok, onnxd, onnxruntime, problems (of models: model, error) and versions:\n\
            model, version, ok, error, file, bytes, ir_version, operator_sets, producer, inputs and outputs (name, datatype,\n\
            shape with numbers, names and null, optional, labels), batching (on, max_batch_size, why), row_seconds,\n\
            instances, intra_op_threads, intra_op_threads_why, load_seconds, manifest (files), test_cases (file, description),\n\
            warnings, example (a command). Keys may be added.\n\n\
            Example:\n  onnxd check models/purchase"
    )]
    Check(Check),
}

/// What `onnxd check` is given.
#[derive(Debug, Args)]
pub struct Check {
    /// A repository, a model's or version's folder, or an .onnx file.
    #[arg(value_name = "PATH")]
    pub path: PathBuf,

    /// Print one JSON document, for scripts.
    #[arg(long)]
    pub json: bool,
}

/// What `onnxd serve` is given.
#[derive(Debug, Args)]
pub struct Serve {
    /// The model repository.
    #[arg(value_name = "DIR")]
    pub repository: PathBuf,

    /// Settings in TOML, under the names of the long options with underscores (http = "0.0.0.0:8000"). Options and the
    /// environment win over it.
    #[arg(long, value_name = "FILE", env = "ONNXD_CONFIG")]
    pub config: Option<PathBuf>,

    /// The settings.
    #[command(flatten)]
    pub settings: Settings,
}

/// Settings of the server; each is an option, an environment variable, and a key of the configuration file.
#[derive(Debug, Default, Clone, PartialEq, Eq, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where to answer HTTP: HOST:PORT (port 0 picks a free one), or off [default: 0.0.0.0:8000].
    #[arg(long, value_name = "ADDR", env = "ONNXD_HTTP")]
    #[serde(deserialize_with = "parsed")]
    pub http: Option<Listen>,

    /// Where to answer gRPC [default: 0.0.0.0:8001].
    #[arg(long, value_name = "ADDR", env = "ONNXD_GRPC")]
    #[serde(deserialize_with = "parsed")]
    pub grpc: Option<Listen>,

    /// Where Prometheus finds /metrics [default: 0.0.0.0:8002].
    #[arg(long, value_name = "ADDR", env = "ONNXD_METRICS")]
    #[serde(deserialize_with = "parsed")]
    pub metrics: Option<Listen>,

    /// Where the admin API will be [default: 127.0.0.1:8003]. Nothing listens there yet.
    #[arg(long, value_name = "ADDR", env = "ONNXD_ADMIN")]
    #[serde(deserialize_with = "parsed")]
    pub admin: Option<Listen>,

    /// Where what admin calls change will be kept. Nothing is kept yet.
    #[arg(long, value_name = "DIR", env = "ONNXD_STATE_DIR")]
    pub state_dir: Option<PathBuf>,

    /// How often the repository is looked at; a change is acted on once two looks agree [default: 1s].
    #[arg(long, value_name = "DURATION", env = "ONNXD_POLL_INTERVAL", value_parser = humantime::parse_duration)]
    #[serde(deserialize_with = "duration")]
    pub poll_interval: Option<Duration>,

    /// How long to go on accepting clients after a signal, with readiness off, so that load balancers notice [default: 0s].
    #[arg(long, value_name = "DURATION", env = "ONNXD_DRAIN_DELAY", value_parser = humantime::parse_duration)]
    #[serde(deserialize_with = "duration")]
    pub drain_delay: Option<Duration>,

    /// How long requests in flight may take to finish then [default: 30s]; when it is exceeded the exit code is 1.
    #[arg(long, value_name = "DURATION", env = "ONNXD_DRAIN_TIMEOUT", value_parser = humantime::parse_duration)]
    #[serde(deserialize_with = "duration")]
    pub drain_timeout: Option<Duration>,

    /// How log lines look, on stderr [default: text].
    #[arg(long, value_name = "FORMAT", env = "ONNXD_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Least level that is logged: error, warn, info, debug, trace, or per target such as warn,onnxd=debug [default: info].
    #[arg(long, value_name = "LEVEL", env = "ONNXD_LOG_LEVEL")]
    pub log_level: Option<String>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl Serve {
    /// The settings, with what the configuration file adds where neither an option nor the environment says anything.
    ///
    /// # Errors
    /// The file can't be read or is wrong (the message names it and the place in it), or a setting makes no sense.
    pub fn merged(&self) -> Result<Settings, String> {
        let settings = self.with_file()?;
        if settings.poll_interval == Some(Duration::ZERO) {
            return Err(
                "--poll-interval (poll_interval) must be longer than 0s: looking without a pause takes a CPU".into()
            );
        }
        Ok(settings)
    }

    fn with_file(&self) -> Result<Settings, String> {
        let Some(path) = &self.config else {
            return Ok(self.settings.clone());
        };
        let text = fs::read_to_string(path).map_err(|error| format!("{} can't be read: {error}", path.display()))?;
        let file: Settings = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let own = self.settings.clone();
        Ok(Settings {
            http: own.http.or(file.http),
            grpc: own.grpc.or(file.grpc),
            metrics: own.metrics.or(file.metrics),
            admin: own.admin.or(file.admin),
            state_dir: own.state_dir.or(file.state_dir),
            poll_interval: own.poll_interval.or(file.poll_interval),
            drain_delay: own.drain_delay.or(file.drain_delay),
            drain_timeout: own.drain_timeout.or(file.drain_timeout),
            log_format: own.log_format.or(file.log_format),
            log_level: own.log_level.or(file.log_level),
        })
    }
}

fn parsed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Listen>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(D::Error::custom)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    humantime::parse_duration(&String::deserialize(deserializer)?).map(Some).map_err(D::Error::custom)
}
