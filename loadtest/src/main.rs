//! Load generator and benchmark for servers of the Open Inference Protocol.
//!
//! # Layout
//!
//! A file imports only from those above it here.
//!
//! ```text
//! target, tally                    targets of requests; counts of their outcomes
//! tensors, answer, message         requests, encoded once, and checks of their answers
//! client                           the ways to a server: gRPC and HTTP/1.1
//! processes, batches               CPU times and batch sizes of a server
//! load                             threads with clients (closed loop) or arrivals (open loop)
//! report                           figures as text, JSON and HTML
//! cli                              commands and options
//! prepare, measure                 from options to requests; one level of a load
//! run, compare, echo, raw          the commands
//! ```

mod answer;
mod batches;
mod cli;
mod client;
mod compare;
mod echo;
mod load;
mod measure;
mod message;
mod prepare;
mod processes;
mod raw;
mod report;
mod run;
mod tally;
mod target;
mod tensors;

use clap::Parser;
use std::{io::Write as _, process::ExitCode};
use tokio::{runtime::Runtime, task::LocalSet};

use cli::{Cli, Command};

fn main() -> ExitCode {
    // Before any thread is there, and long before ONNX Runtime is loaded.
    onnxd::ort_library::disable_telemetry();
    let done = match Cli::parse().command {
        Command::Run(options) => local_runtime().and_then(|runtime| block_on(&runtime, run::run(&options))),
        Command::Compare(options) => local_runtime().and_then(|runtime| block_on(&runtime, compare::compare(&options))),
        Command::Echo(options) => echo::echo(&options).map(|()| String::new()),
        Command::Raw(options) => raw::raw(&options),
    };
    match done {
        // Whoever reads may have seen enough.
        Ok(text) => {
            let _ = writeln!(std::io::stdout().lock(), "{}", text.trim_end());
            ExitCode::SUCCESS
        }
        Err(why) => {
            let _ = writeln!(std::io::stderr().lock(), "loadtest: {why}");
            ExitCode::FAILURE
        }
    }
}

fn local_runtime() -> Result<Runtime, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("a runtime can't be started: {error}"))
}

/// Connections live in tasks that stay on this thread.
fn block_on<T>(runtime: &Runtime, future: impl Future<Output = T>) -> T {
    LocalSet::new().block_on(runtime, future)
}
