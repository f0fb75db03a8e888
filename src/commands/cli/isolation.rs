//! Settings about worker processes.

use clap::{Args, ValueEnum};

use crate::config::Isolation;

/// Settings about worker processes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct IsolationSettings {
    /// Isolation in worker processes of models whose config.toml does not set it: auto (where the graph shows that values of a
    /// request can end the process), process (all models) or none. A worker that crashes is restarted. The requests that it ran
    /// get UNAVAILABLE (503), all others go on. On the CPU only.
    #[arg(long, value_name = "WHERE", env = "ONNXD_ISOLATION", default_value = "auto")]
    pub isolation: Isolation,

    /// Trial of files that this server has not seen, which loads and runs them in a child process first: on or off. A file that
    /// ends or blocks the child fails to load, and the server goes on. Files that have passed are recorded in --state-dir.
    #[arg(long, value_name = "WHETHER", env = "ONNXD_TRIAL", default_value = "on", hide_possible_values = true)]
    pub trial: Trial,
}

/// Trial of files in a child process before they are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Trial {
    /// Files are tried, once.
    On,
    /// Files are not tried.
    Off,
}
