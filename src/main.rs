//! The `onnxd` command.

use clap::Parser;
use onnxd::{
    check,
    cli::{Cli, Command},
    runtime, server,
};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before any thread is there, and long before ONNX Runtime is loaded.
    runtime::disable_telemetry();
    let done = match Cli::parse().command {
        Command::Serve(serve) => serve.merged().and_then(|settings| server::serve(&serve.repository, &settings)),
        Command::Check(arguments) => check::check(&arguments.path, arguments.json),
    };
    match done {
        Ok(code) => code,
        Err(why) => {
            server::report(&why);
            ExitCode::FAILURE
        }
    }
}
