//! Command line of `onnxd runtime`.

use clap::{Args, Subcommand};

/// Arguments of `onnxd runtime`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Runtime {
    /// Action in place of showing the library.
    #[command(subcommand)]
    pub action: Option<RuntimeCommand>,

    /// Print one JSON document, for scripts: library (its path, or null), problem (why there is none), cache, places (origin,
    /// paths, found) and providers (cuda and tensorrt: missing, with library, why and advice). Keys may be added.
    #[arg(long)]
    pub json: bool,
}

/// Actions of `onnxd runtime`.
#[derive(Debug, Subcommand)]
pub enum RuntimeCommand {
    /// Fetch ONNX Runtime into the cache directory, where a server finds it.
    ///
    /// The library comes from PyPI, by `python3 -m pip download` and the settings that pip has here (index, proxy,
    /// certificates). Every wheel is pinned by its SHA-256. Wheels that are there already are verified and kept: after an
    /// interruption of any kind the same command resumes with the wheel that it was at. Several installs at once wait for each
    /// other. Running servers keep the library that they have loaded.
    ///
    /// With --cuda, fetches the build for NVIDIA GPUs with the libraries of CUDA 13 and cuDNN 9 that it needs: 1.5 GB to
    /// download, 2.0 GB on the disk. A server then finds these libraries without LD_LIBRARY_PATH. The driver, 580 or later,
    /// comes from elsewhere. From then on servers prefer that build to the one for CPUs; remove its folder to return to the
    /// build for CPUs.
    ///
    /// Prints the path of the library on stdout and its progress on stderr.
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
