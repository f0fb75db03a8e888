//! Command lines of `onnxd completions` and `onnxd man`.

use clap::Args;
use clap_complete::Shell;
use std::path::PathBuf;

/// Command line of `onnxd completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell.
    pub shell: Shell,
}

/// Command line of `onnxd man`.
#[derive(Debug, Args)]
pub struct Man {
    /// Write the pages of all commands into this folder instead (onnxd.1, onnxd-serve.1, ...); it is made where it is missing.
    #[arg(value_name = "DIR")]
    pub directory: Option<PathBuf>,
}
