//! The life of a server process: it serves until a signal arrives, drains, and ends.

use std::process::ExitCode;

use super::{
    blocking,
    config::ServerConfig,
    log::{self, Console},
    ports::Sockets,
    shutdown::Ended,
    signals::{self, Signals},
    start::Server,
};
use crate::{clock, host::use_long_slice};

/// Concurrent admin calls that take locks or write to the disk, at most.
const MAX_ADMIN_THREADS: usize = 64;

/// Serves until a signal arrives. Returns the exit code of an orderly end.
///
/// # Errors
/// The server can't start; the message names the cause and the fix.
pub fn run(config: ServerConfig, console: &Console) -> Result<ExitCode, String> {
    clock::check()?;
    let runtime = blocking::build(
        tokio::runtime::Builder::new_current_thread().on_thread_start(use_long_slice),
        MAX_ADMIN_THREADS,
    );
    let runtime = runtime.map_err(|error| format!("the main thread's runtime can't be started: {error}"))?;
    let ended = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let hangup = signals::hangup()?;
        let progress = console.clone();
        let server = Server::start_on(Sockets::default(), config, move |event| progress.progress(&event)).await?;
        let access_log = server.access_log();
        tokio::spawn(signals::at_each(hangup, move || match &access_log {
            Some(log) => log.reopen(),
            None => tracing::info!(signal = "SIGHUP", setting = "--access-log", "no access log to reopen"),
        }));
        // Called after the serving threads have been started, as those would inherit it.
        use_long_slice();
        let signal = signals.next().await;
        tracing::info!(signal, "draining, not ready any more, finishing requests in flight");
        tokio::spawn(signals.exit_at_next());
        Ok::<_, String>(server.shutdown().await)
    })?;
    tracing::info!("stopped");
    log::flush();
    match ended {
        Ended::Done { abandoned: 0 } => {}
        // Threads that were abandoned long ago don't make the end disorderly.
        Ended::Done { .. } => signals::exit_now(0),
        // Runs that still go on are not waited for; they may run for ever.
        Ended::CutOff => signals::exit_now(1),
    }
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}
