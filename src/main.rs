//! The `onnxd` command.

use clap::Parser;
use onnxd::{
    cli::{Cli, Command},
    runtime, server,
};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before any thread is there, and long before ONNX Runtime is loaded.
    runtime::disable_telemetry();
    let Command::Serve(serve) = Cli::parse().command;
    match serve.merged().and_then(|settings| server::serve(&serve.repository, &settings)) {
        Ok(code) => code,
        Err(why) => {
            server::report(&why);
            ExitCode::FAILURE
        }
    }
}
