use std::{fmt::Display, io, path::Path};

/// Why a version can't be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For people: the file, what was expected, what came, and what to do where that is known.
    pub why: String,
    /// True if the same files may load later: the cause lies outside of them.
    pub may_pass: bool,
}

impl Failure {
    /// A failure that lasts as long as the files are as they are.
    pub fn lasting(why: impl Into<String>) -> Self {
        Failure { why: why.into(), may_pass: false }
    }

    /// A failure that may pass.
    pub fn passing(why: impl Into<String>) -> Self {
        Failure { why: why.into(), may_pass: true }
    }

    /// The same with the file that it is about in front.
    pub fn at(mut self, path: &Path) -> Self {
        self.why = format!("{}: {}", path.display(), self.why);
        self
    }

    /// A file can't be read. What is no file stays so; all else may pass.
    pub(crate) fn unreadable(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => Failure::lasting(error.to_string()),
            io::ErrorKind::NotFound => Failure::lasting("there is no such file"),
            io::ErrorKind::PermissionDenied => Failure::passing(unreadable_with(
                error,
                "the user that runs the server must be allowed to read it, and to enter every folder on the way",
            )),
            _ if error.raw_os_error() == Some(libc::ELOOP) => {
                Failure::lasting(unreadable_with(error, "it is a link that leads back to itself"))
            }
            _ => Failure::passing(format!("it can't be read: {error}")),
        }
    }
}

fn unreadable_with(error: &io::Error, what: impl Display) -> String {
    format!("it can't be read: {error}; {what}")
}
