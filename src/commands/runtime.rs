//! `onnxd runtime`: which library of ONNX Runtime is used, and fetching one.

mod install;
mod show;

use std::process::ExitCode;

use super::cli::{Action, Runtime};

/// Shows or fetches.
///
/// # Errors
/// What can't be fetched, and why.
pub fn run(asked: &Runtime) -> Result<ExitCode, String> {
    match asked.action {
        Some(Action::Install { cuda }) => install::install(cuda).map(|()| ExitCode::SUCCESS),
        None => show::show(asked.json),
    }
}
