//! The command for ONNX Runtime's library.

use clap::{Args, Subcommand};

/// What `onnxd runtime` is given.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Runtime {
    /// What to do other than to show.
    #[command(subcommand)]
    pub action: Option<Action>,

    /// Print one JSON document, for scripts: library (its path, or null), problem (why there is none), cache, places (origin,
    /// paths, found) and providers (cuda and tensorrt: missing, with library, why and advice). Keys may be added.
    #[arg(long)]
    pub json: bool,
}

/// What `onnxd runtime` does.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Fetch ONNX Runtime into the cache directory, where a server finds it.
    ///
    /// It comes from PyPI, by `python3 -m pip download` and the settings that pip has here (index, proxy, certificates). Every
    /// wheel is pinned by its SHA-256. What is there already is verified and kept: after an end of any kind the same command
    /// goes on with the wheel that it was at. Several at once wait for each other. Servers that run go on with what they have.
    ///
    /// With --cuda it is the build for NVIDIA GPUs with what it needs of CUDA 13 and cuDNN 9, which a server then finds without
    /// LD_LIBRARY_PATH: 1.5 GB to download, 2.0 GB on the disk. The driver, 580 or later, comes from elsewhere. That build goes
    /// before the one for CPUs from then on; remove its folder to have that again.
    ///
    /// Printed is the path of the library; how it goes is told on stderr.
    #[command(after_help = "\
Examples:
  onnxd runtime install --cuda
  ONNXD_CACHE_DIR=/opt/onnxd onnxd runtime install --cuda    and the same for `onnxd serve`
  PIP_INDEX_URL=https://pypi.example/simple onnxd runtime install")]
    Install {
        /// The build for NVIDIA GPUs, with the libraries of CUDA and cuDNN that it needs.
        #[arg(long)]
        cuda: bool,
    },
}
