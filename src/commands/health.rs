//! `onnxd health`: reports by the exit code whether a server is ready, where there is neither a shell nor curl.

use super::{
    cli::Health,
    http_client::{Client, Question},
};

/// Asks a server whether it is ready.
///
/// # Errors
/// The server is not ready, or can't be reached; the message says which.
pub fn run(options: &Health) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the runtime can't be started: {error}"))?;
    let client = Client::of_inferences(&options.url, options.timeout);
    runtime.block_on(client.ask(Question::get("/v2/health/ready"))).map(drop)
}
