//! Settings about worker processes.

use clap::{Args, ValueEnum};

use crate::config::Isolation;

/// Settings about worker processes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct IsolationSettings {
    /// Whether models run in worker processes whose config.toml does not say: auto (where the graph shows that values of a request
    /// can end the process), process (all do) or none. A worker that crashes is restarted; the requests that it ran get
    /// UNAVAILABLE (503), all others go on. On the CPU only.
    #[arg(long, value_name = "WHERE", env = "ONNXD_ISOLATION", default_value = "auto")]
    pub isolation: Isolation,

    /// Whether files that this server has not seen are loaded and run in a child process first: on or off. One that ends or
    /// blocks the child fails to be loaded, and the server goes on. What has passed is remembered in --state-dir.
    #[arg(long, value_name = "WHETHER", env = "ONNXD_TRIAL", default_value = "on", hide_possible_values = true)]
    pub trial: Trial,
}

/// Whether files are tried in a child process before they are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Trial {
    /// They are, once.
    On,
    /// They are not.
    Off,
}
