//! ONNX Runtime's log lines, as events of the server's log.

use ort::logging::{LogLevel, LoggerFunction};
use std::{cell::Cell, sync::Arc};

thread_local! {
    /// True while this thread runs a batch.
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// Makes a run: a run's errors come back to the caller, and clients could fill the log with them.
pub(super) fn during_run<T>(run: impl FnOnce() -> T) -> T {
    RUNNING.set(true);
    let ran = run();
    RUNNING.set(false);
    ran
}

/// Passes ONNX Runtime's log lines to the server's log.
pub(super) fn logger() -> LoggerFunction {
    Arc::new(|level, category, _id, location, message| match level {
        _ if RUNNING.get() => tracing::debug!(target: "onnxruntime", message, category, location),
        LogLevel::Verbose | LogLevel::Info => tracing::debug!(target: "onnxruntime", message, category, location),
        // Its errors are no errors of the server: whatever fails comes back to the caller, which reports it.
        LogLevel::Warning | LogLevel::Error | LogLevel::Fatal => {
            tracing::warn!(target: "onnxruntime", message, category, location);
        }
    })
}
