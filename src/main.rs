//! The `onnxd` command.

use onnxd::{
    commands::{
        self, admin, check,
        cli::{self, Command},
        doctor, health, infer, runtime,
    },
    engine,
    host::gpus,
    ort_library, server,
};
use std::process::ExitCode;

fn main() -> ExitCode {
    // These run before any thread starts, and long before ONNX Runtime is loaded.
    ort_library::disable_telemetry();
    gpus::number_by_bus();
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    // `worker` is no command for people. A worker process must first of all let go of the server's files.
    if let Some((first, arguments)) = arguments.split_first()
        && first == "worker"
    {
        return engine::serve_worker(arguments).map_or_else(failed, |()| ExitCode::SUCCESS);
    }
    let invocation = match cli::read() {
        Ok(invocation) => invocation,
        Err(problems) => {
            problems.lines.iter().for_each(|line| server::report(line));
            return problems.code;
        }
    };
    let unknown = &invocation.unknown_variables;
    // A server logs unknown variables. The commands that print scripts run at the start of every shell.
    if !matches!(invocation.command, Command::Serve(_) | Command::Completions(_) | Command::Man(_)) {
        unknown.iter().for_each(|variable| server::report(&variable.to_string()));
    }
    let done = match &invocation.command {
        Command::Serve(serve) => commands::serve(&serve.repository, &serve.sources.settings, unknown),
        Command::Check(options) => check::check(options),
        Command::Doctor(options) => doctor::run(options),
        Command::Config(config) => commands::config::show(config, &invocation.settings).map(|()| ExitCode::SUCCESS),
        Command::Runtime(asked) => runtime::run(asked),
        Command::Infer(options) => infer::run(options).map(|()| ExitCode::SUCCESS),
        Command::Health(options) => health::run(options).map(|()| ExitCode::SUCCESS),
        Command::Completions(asked) => commands::completions(asked).map(|()| ExitCode::SUCCESS),
        Command::Man(asked) => commands::man(asked).map(|()| ExitCode::SUCCESS),
        Command::Admin(command) => admin::run(command).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(failed)
}

fn failed(why: String) -> ExitCode {
    server::report(&why);
    ExitCode::FAILURE
}
