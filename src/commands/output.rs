//! Output of the commands: results on stdout, remarks on stderr.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write as _},
};

/// Prints a result.
///
/// # Errors
/// Stdout can't be written. A reader that has closed the pipe is no error.
pub(super) fn print(text: impl AsRef<[u8]>) -> Result<(), String> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| format!("stdout: {error}")),
    }
}

/// Prints a remark beside the result.
pub(super) fn remark(what: &dyn Display) {
    // Without a reader nothing is lost: the exit code reports the outcome too.
    let _ = writeln!(io::stderr(), "onnxd: {what}");
}

/// True if stdout is a terminal and NO_COLOR is unset or empty.
pub(super) fn is_coloured() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
