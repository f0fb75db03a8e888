//! The `onnxd` command.

use onnxd::{
    admin, check,
    cli::{self, Command},
    doctor, gpu, health, infer, library, runtime, server,
};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before any thread is there, and long before ONNX Runtime is loaded.
    runtime::disable_telemetry();
    gpu::number_by_bus();
    let invocation = match cli::read() {
        Ok(invocation) => invocation,
        Err(problems) => {
            problems.lines.iter().for_each(|line| server::report(line));
            return problems.code;
        }
    };
    let done = match &invocation.command {
        Command::Serve(serve) => server::serve(&serve.repository, &serve.sources.settings),
        Command::Check(asked) => check::check(&asked.path, asked.device, asked.max_run_time, asked.json),
        Command::Doctor(options) => doctor::run(options),
        Command::Config(config) => cli::show(config, &invocation.settings).map(|()| ExitCode::SUCCESS),
        Command::Runtime(asked) => library::run(asked),
        Command::Infer(options) => infer::run(options).map(|()| ExitCode::SUCCESS),
        Command::Health(options) => health::run(options).map(|()| ExitCode::SUCCESS),
        Command::Completions(asked) => cli::completions(asked).map(|()| ExitCode::SUCCESS),
        Command::Man(asked) => cli::man(asked).map(|()| ExitCode::SUCCESS),
        Command::Admin(command) => admin::run(command).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|why| {
        server::report(&why);
        ExitCode::FAILURE
    })
}
