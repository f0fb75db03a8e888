//! Load generator and benchmark for servers of the Open Inference Protocol.
//!
//! Nothing is here yet but the workspace member itself: running it says so and fails, so that no script mistakes it for a
//! measurement.

use std::process::ExitCode;

#[allow(clippy::print_stderr, reason = "a command-line program speaks on stderr")]
fn main() -> ExitCode {
    eprintln!("loadtest: not implemented yet; it measures nothing");
    ExitCode::FAILURE
}
