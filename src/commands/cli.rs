//! The command line, and the settings from it, the environment and a file.

pub mod admin;
mod client;
mod doctor;
mod environment;
mod generated;
mod help;
mod isolation;
pub(super) mod resolve;
mod runtime;
mod settings;
mod values;

pub use client::{Health, Infer};
pub use doctor::Doctor;
pub use environment::UnknownVariable;
pub use generated::{Completions, Man};
pub use isolation::{IsolationSettings, Trial};
#[cfg(any(fuzzing, test))]
pub(crate) use resolve::parse_for_fuzzing;
pub use resolve::{Invocation, Problems, read};
pub use runtime::{Runtime, RuntimeCommand};
pub use settings::{LogFormatArg, MemoryFull, Settings, Sources};
use values::{device, duration, size};

use clap::{Args, Parser, Subcommand};
use std::{path::PathBuf, time::Duration};

use crate::config::{ByteSize, Device, Folders};

/// Serve ONNX models over the Open Inference Protocol, gRPC and HTTP, with dynamic batching.
#[derive(Debug, Parser)]
#[command(
    name = "onnxd",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  onnxd serve models                      serve every model in a folder
  onnxd infer purchase sessions.csv       a prediction for each line of a file, by that server
  onnxd check models                      would they all serve, and how?
  onnxd traffic set purchase 2=99 3=1     one request of a hundred to version 3
  onnxd config --defaults > onnxd.toml    every setting of the server with its documentation
  onnxd help serve                        more about a command

Exit codes: 0 done, 1 failed, 2 wrong command line or environment."
)]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// Commands of `onnxd`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the models of a repository, or one model.
    ///
    /// DIR holds one folder per model with its versions (DIR/MODEL/VERSION/model.onnx or DIR/MODEL/VERSION.onnx), or just files
    /// (DIR/MODEL.onnx, which is version 1). A model's folder may hold a config.toml, also beside its file. DIR may be a model's
    /// folder or an .onnx file itself, which is then served alone under its name. Changes are followed while the server runs.
    ///
    /// Each setting is an option, an environment variable and a key of the file that --config names; an option wins over the
    /// variable, and that over the file. A variable that is empty counts as not set.
    ///
    /// SIGTERM or SIGINT ends the server gracefully: readiness goes off, requests in flight are finished, exit code 0. A second
    /// signal ends it at once. SIGHUP reopens the file of --access-log, and does nothing else.
    #[command(after_help = "\
Examples:
  onnxd serve models --http 127.0.0.1:8000 --grpc off
  onnxd serve model.onnx --model-name purchase
  onnxd serve models --config onnxd.toml
  ONNXD_LOG_FORMAT=json onnxd serve models
  curl -s localhost:8000/v2/models/purchase")]
    Serve(Box<Serve>),

    /// Show settings: those in effect with where each comes from, or every one with its documentation.
    ///
    /// Takes the arguments of `serve`, checks them and prints the settings in effect, as TOML.
    #[command(after_help = "\
Examples:
  onnxd config --config onnxd.toml               is the file right, and what holds with it?
  onnxd config --defaults > onnxd.toml           the server's settings, to be edited
  onnxd config --defaults --model > models/purchase/config.toml")]
    Config(Box<Config>),

    /// Load models exactly as the server would, without serving them, and report the findings.
    ///
    /// PATH is a repository, a model's folder, a version's folder, or an .onnx file. Every version is loaded with its model's
    /// config.toml, verified against its SHA256SUMS, probed and held to its test cases. Nothing is written and no port is
    /// opened.
    ///
    /// The exit code is 0 if everything would serve, 1 if something would not, 2 if the command line is wrong.
    #[command(
        after_long_help = "With --json, one document: ok, onnxd, onnxruntime, problems (of models: model, error), unserved (sentences) and versions:\n\
            model, version, ok, error, file, bytes, ir_version, operator_sets, producer, inputs and outputs (name, datatype,\n\
            shape with numbers, names and null, optional, labels), devices, device_why, batching (on, max_batch_size, why),\n\
            cuda_graphs (on, why), row_seconds, probe_error, max_run_memory, instances, intra_op_threads, intra_op_threads_why, load_seconds, manifest (files),\n\
            test_cases (file, description), warnings, example (a command). Keys may be added.\n\n\
            Example:\n  onnxd check models/purchase"
    )]
    Check(Check),

    /// Check this machine as a server would, and report its resources and problems.
    ///
    /// Checks CPUs and memory with the limits of control groups, open files, GPUs with their driver, the ports, and folders.
    /// Checks ONNX Runtime with its execution providers: which it was built with, whether their libraries can be loaded, and
    /// whether they work. Takes the settings that `serve` takes. Nothing is written, and no port stays open.
    ///
    /// Each finding is ok, a warning (a server serves, but not as well as it could), or a problem (it does not start, or does
    /// not serve). The exit code is 0 if there is no problem, 1 if there is one, 2 if the command line is wrong.
    #[command(after_long_help = doctor::MORE)]
    Doctor(Box<Doctor>),

    /// Show which library of ONNX Runtime is used, or fetch one: for CPUs, or for NVIDIA GPUs.
    ///
    /// A server takes the first library that it finds: the one that ORT_DYLIB_PATH names; one beside the executable, or in
    /// ../lib from there; and in the cache directory the build for CUDA, which runs on CPUs too, before the one for CPUs. The
    /// cache directory is $ONNXD_CACHE_DIR, else $XDG_CACHE_HOME/onnxd, else ~/.cache/onnxd.
    ///
    /// Shows these places. Shows also the libraries that the providers for NVIDIA GPUs need and that can't be loaded, each with
    /// how to get it. Nothing is fetched, and GPUs are not looked for. The exit code is 0 if there is a library of ONNX
    /// Runtime, else 1.
    #[command(after_help = "\
Examples:
  onnxd runtime
  onnxd runtime --json | jq -r '.providers.cuda.missing[].library'
  onnxd runtime install --cuda")]
    Runtime(Runtime),

    /// Ask a running server for a prediction.
    ///
    /// An input is JSON, CSV, or what numpy.save or numpy.savez wrote; without any it comes from stdin. Datatypes and shapes are
    /// those of the model's metadata, and values are converted to them where nothing but digits is lost.
    ///
    /// JSON: a nested array for a model with one input, {"NAME": nested array, ...} for any, or a whole request as the Open
    /// Inference Protocol has it. CSV: a line is a row, of one input; or of all inputs where the header names a column for each.
    /// NPZ: arrays under the names of the inputs.
    ///
    /// A server's refusal is printed unchanged, with exit code 1.
    #[command(after_help = "\
Examples:
  onnxd infer purchase sessions.csv
  echo '[[1, 2, 3, 4]]' | onnxd infer iris --version 2 --json
  onnxd infer simple INPUT0=a.npy INPUT1=b.npy --url http://models.example:8000
  onnxd infer purchase sessions.csv --routing-key user-7 --header 'Authorization: Bearer TOKEN'")]
    Infer(Infer),

    /// Ask a running server whether it is ready.
    ///
    /// The exit code is 0 if the server is ready, else 1 with the reason on stderr. For health checks of containers: needs
    /// neither a shell nor curl.
    #[command(after_help = "\
Example:
  onnxd health --url http://models.example:8000 && echo ready")]
    Health(Health),

    /// Print the completions of a shell.
    #[command(after_help = "\
Examples:
  source <(onnxd completions bash)
  onnxd completions zsh > ~/.zfunc/_onnxd
  onnxd completions fish > ~/.config/fish/completions/onnxd.fish")]
    Completions(Completions),

    /// Print the manual page, or write those of all commands into a folder.
    #[command(after_help = "\
Examples:
  onnxd man | man -l -
  onnxd man /usr/local/share/man/man1")]
    Man(Man),

    /// Commands that call the admin API.
    #[command(flatten)]
    Admin(admin::AdminCommand),
}

/// Command line of `onnxd check`.
#[derive(Debug, Args)]
pub struct Check {
    /// A repository, a model's or version's folder, or an .onnx file.
    #[arg(value_name = "PATH")]
    pub path: PathBuf,

    /// Print one JSON document, for scripts.
    #[arg(long)]
    pub json: bool,

    /// Folders outside of the repository that links in it may lead to, as `onnxd serve` takes them.
    #[arg(long, value_name = "DIRS", env = "ONNXD_ALLOW_LINKS_TO")]
    pub allow_links_to: Option<Folders>,

    /// Device of models whose config.toml names no device, as `onnxd serve` takes it.
    #[arg(long, value_name = "DEVICE", env = "ONNXD_DEVICE", default_value = "auto", value_parser = device)]
    pub device: Device,

    /// Time that one run may take, for models whose config.toml has no max_run_time, as `onnxd serve` takes it.
    #[arg(long, value_name = "DURATION", env = "ONNXD_MAX_RUN_TIME", default_value = "60s", value_parser = duration)]
    pub max_run_time: Duration,

    /// Memory that one run may hold, for models whose config.toml has no max_run_memory, as `onnxd serve` takes it, with the
    /// same default.
    #[arg(long, value_name = "SIZE", env = "ONNXD_MAX_RUN_MEMORY", value_parser = size)]
    pub max_run_memory: Option<ByteSize>,
}

/// Command line of `onnxd serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// The model repository, a model's folder, or an .onnx file.
    #[arg(value_name = "DIR")]
    pub repository: PathBuf,

    /// The settings.
    #[command(flatten)]
    pub sources: Sources,
}

/// Command line of `onnxd config`.
#[derive(Debug, Args)]
pub struct Config {
    /// Every setting at its default with its documentation: a file that, given with --config, changes nothing.
    #[arg(long)]
    pub defaults: bool,

    /// The settings of a model instead, which stand in config.toml in its folder.
    #[arg(long, requires = "defaults")]
    pub model: bool,

    /// The settings.
    #[command(flatten)]
    pub sources: Sources,
}
