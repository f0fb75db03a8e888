//! The signals that the process handles, and its end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::log;

/// The signals that end the server.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Installs the handlers. From now on the signals don't end the process by themselves.
    pub(super) fn listen() -> Result<Self, String> {
        let listen = |kind| signal(kind).map_err(|error| format!("signals can't be handled: {error}"));
        Ok(Signals { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Name of the next signal.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }

    /// Ends the process at once at the next signal, with the exit code that shells use for a process ended by that signal.
    pub(super) async fn exit_at_next(mut self) {
        let signal = self.next().await;
        tracing::warn!(signal, "ending at once");
        log::flush();
        exit_now(128 + if signal == "SIGINT" { 2 } else { 15 });
    }
}

/// Handles SIGHUP, whose default is to end the process. From now on it does not.
pub(super) fn hangup() -> Result<Signal, String> {
    signal(SignalKind::hangup()).map_err(|error| format!("signals can't be handled: {error}"))
}

/// Runs `act` at each signal.
pub(super) async fn at_each(mut signal: Signal, act: impl Fn()) {
    while signal.recv().await.is_some() {
        act();
    }
}

/// Ends the process without running destructors: those of ONNX Runtime would free memory that runs still use.
#[allow(unsafe_code, reason = "a system call")]
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes any code, does not return and touches no memory of the process.
    unsafe { libc::_exit(code) }
}
