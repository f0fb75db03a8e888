//! `onnxd runtime`: shows the library of ONNX Runtime that is used, or fetches one.

mod install;
mod show;

use std::process::ExitCode;

use super::cli::{Runtime, RuntimeCommand};

/// Shows or fetches the library.
///
/// # Errors
/// The library can't be fetched; the message has the reason.
pub fn run(asked: &Runtime) -> Result<ExitCode, String> {
    match asked.action {
        Some(RuntimeCommand::Install { cuda }) => install::install(cuda).map(|()| ExitCode::SUCCESS),
        None => show::show(asked.json),
    }
}
