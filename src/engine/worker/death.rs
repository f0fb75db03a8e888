//! Death of a worker, for people.

use std::{fmt, os::unix::process::ExitStatusExt, process::ExitStatus};

/// The end of a worker that was not asked to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    cause: Cause,
    /// The last line that it wrote to stderr, if it wrote any.
    last_words: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Cause {
    Signal(i32),
    /// SIGABRT, for want of memory.
    AbortForMemory,
    Exit(i32),
    /// The server ended it, for this reason.
    Ended(String),
}

/// Signals that end processes, by their names.
const NAMES: [(i32, &str); 10] = [
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGINT, "SIGINT"),
    (libc::SIGKILL, "SIGKILL"),
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGSYS, "SIGSYS"),
    (libc::SIGTERM, "SIGTERM"),
    (libc::SIGXCPU, "SIGXCPU"),
];

/// The name of a signal, or its number.
pub(super) fn signal_name(signal: i32) -> String {
    let known = NAMES.iter().find(|(number, _)| *number == signal);
    known.map_or_else(|| format!("signal {signal}"), |(_, name)| (*name).to_owned())
}

impl Death {
    /// By the system's word on the process, and the last line that it wrote to stderr.
    pub fn of(status: ExitStatus, last_words: Option<String>) -> Self {
        let cause = match status.signal() {
            // C++ code that gets no memory ends by SIGABRT, and nothing but its last words says so.
            Some(libc::SIGABRT) if last_words.as_deref().is_some_and(lacks_memory) => Cause::AbortForMemory,
            Some(signal) => Cause::Signal(signal),
            None => Cause::Exit(status.code().unwrap_or(-1)),
        };
        Death { cause, last_words }
    }

    /// By the server's own hand.
    pub(super) fn ended(why: impl Into<String>) -> Self {
        Death { cause: Cause::Ended(why.into()), last_words: None }
    }

    /// Its cause, as a verb phrase such as "was ended by SIGSEGV".
    pub fn cause(&self) -> String {
        match &self.cause {
            Cause::Signal(signal) => format!("was ended by {}", signal_name(*signal)),
            Cause::AbortForMemory => format!("was ended by {}", signal_name(libc::SIGABRT)),
            Cause::Exit(code) => format!("ended with exit code {code}"),
            Cause::Ended(why) => format!("was ended: {why}"),
        }
    }

    /// True if it ended by itself, as a worker does that can't work.
    pub(super) fn is_exit(&self) -> bool {
        matches!(self.cause, Cause::Exit(_))
    }

    /// True if it says nothing of the model: where memory runs out, the system ends a process by SIGKILL.
    pub fn may_pass(&self) -> bool {
        self.cause == Cause::Signal(libc::SIGKILL)
    }

    /// True if a fault of the code that it ran ended it, which the same files would cause again. Not so where the cause may lie
    /// outside of them: a lack of memory, the server or somebody else that ended it, or a worker that could not work.
    pub fn is_fault(&self) -> bool {
        // Pages of shared memory that can't be had end it by SIGBUS.
        matches!(self.cause, Cause::Signal(libc::SIGFPE | libc::SIGSEGV | libc::SIGILL | libc::SIGABRT))
    }

    /// The last line that it wrote to stderr, if it wrote any.
    pub fn last_words(&self) -> Option<&str> {
        self.last_words.as_deref()
    }
}

/// True if words on stderr are about a lack of memory.
fn lacks_memory(words: &str) -> bool {
    words.contains("bad_alloc") || words.contains("memory")
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause())?;
        match &self.last_words {
            Some(words) => write!(f, "; it wrote: {}", words.escape_debug()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deaths_name_their_cause() {
        // As wait(2) encodes them.
        let by_signal = |signal| Death::of(ExitStatus::from_raw(signal), None).to_string();
        assert_eq!(by_signal(libc::SIGFPE), "was ended by SIGFPE");
        assert_eq!(by_signal(60), "was ended by signal 60");
        let exit = Death::of(ExitStatus::from_raw(3 << 8), Some("so\tlong".into()));
        assert_eq!(exit.to_string(), "ended with exit code 3; it wrote: so\\tlong");
        assert_eq!(Death::ended("it took too long").to_string(), "was ended: it took too long");
    }

    #[test]
    fn faults_are_distinguished_from_transient_deaths() {
        let by_signal =
            |signal, words: Option<&str>| Death::of(ExitStatus::from_raw(signal), words.map(str::to_owned)).is_fault();
        assert!(
            [libc::SIGFPE, libc::SIGSEGV, libc::SIGILL, libc::SIGABRT].iter().all(|signal| by_signal(*signal, None))
        );
        assert!(![libc::SIGKILL, libc::SIGTERM, libc::SIGBUS].iter().any(|signal| by_signal(*signal, None)));
        assert!(by_signal(libc::SIGABRT, Some("double free or corruption (out)")));
        for words in ["what():  std::bad_alloc", "memory allocation of 4294967296 bytes failed"] {
            assert!(!by_signal(libc::SIGABRT, Some(words)), "{words}");
        }
        assert!(!Death::of(ExitStatus::from_raw(3 << 8), None).is_fault());
        assert!(!Death::ended("what it did could not be stopped").is_fault());
    }
}
