//! `onnxd runtime`: which library of ONNX Runtime is used, and fetching one.

mod install;
mod show;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use super::cli::{Action, Runtime};

/// Shows or fetches.
///
/// # Errors
/// What can't be fetched, and why.
pub fn run(asked: &Runtime) -> Result<ExitCode, String> {
    match asked.action {
        Some(Action::Install { cuda }) => install::install(cuda).map(|()| ExitCode::SUCCESS),
        None => Ok(show::show(asked.json)),
    }
}

/// Prints a result. Whoever reads it may have read enough.
fn print(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}
