//! Destination of the access log's lines: a file, which may be moved away at any time, a pipe, or stdout.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    mem,
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use crate::api::AccessLog;

/// Time that writing the last lines may take when the server ends.
const LAST: Duration = Duration::from_secs(1);

/// The thread that writes the lines.
pub(super) struct Writer {
    log: Arc<AccessLog>,
    ended: mpsc::Receiver<()>,
}

/// Destination of the lines.
struct Sink {
    /// `None` is stdout.
    path: Option<PathBuf>,
    file: File,
    /// True if the file ends in the middle of a line.
    is_torn: bool,
    /// True if a failure to reopen the file has been logged.
    is_adrift: bool,
    /// True if a failure to write has been logged.
    has_failed: bool,
}

impl Writer {
    /// Writes the lines of the log to a file, or to stdout, whose path is `-`.
    ///
    /// # Errors
    /// The file can't be opened.
    pub(super) fn start(log: Arc<AccessLog>, path: &Path) -> Result<Self, String> {
        let wrong = |why: String| format!("--access-log {}: {why}", path.display());
        let mut sink = Sink::open(path).map_err(|error| wrong(explained(&error)))?;
        let (end, ended) = mpsc::channel();
        let lines = log.clone();
        let work = move || {
            loop {
                let taken = lines.take();
                if taken.reopen || sink.has_moved() {
                    sink.reopen();
                }
                lines.lost(sink.write(&taken.bytes));
                if taken.closed {
                    // An error means that `end` gave up waiting, or that nothing ever called it.
                    let _ = end.send(());
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("access-log".into()).spawn(work);
        thread.map_err(|error| wrong(format!("its thread can't be started: {error}")))?;
        Ok(Writer { log, ended })
    }

    /// Closes the log and waits until the remaining lines are written, for `LAST` at most.
    pub(super) fn end(self) {
        self.log.close();
        // The reader of a pipe may never read.
        if self.ended.recv_timeout(LAST).is_err() {
            tracing::warn!(limit = ?LAST, "last lines of the access log lost, not written in time");
        }
    }
}

impl Sink {
    fn open(path: &Path) -> io::Result<Self> {
        let stdout = path == Path::new("-");
        let file = if stdout { File::from(io::stdout().as_fd().try_clone_to_owned()?) } else { open(path)? };
        let path = (!stdout).then(|| path.to_owned());
        Ok(Sink { path, file, is_torn: false, is_adrift: false, has_failed: false })
    }

    /// True if the path names another file by now, or none.
    fn has_moved(&self) -> bool {
        let Some(path) = &self.path else { return false };
        let Ok(open) = self.file.metadata() else { return false };
        path.metadata().map_or(true, |named| (named.dev(), named.ino()) != (open.dev(), open.ino()))
    }

    /// Continues in the file that the path names now. Where that can't be opened, continues in the file that the path named
    /// before.
    fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        match open(path) {
            Ok(file) => (self.file, self.is_torn, self.is_adrift) = (file, false, false),
            Err(error) if !self.is_adrift => {
                let (path, error) = (path.display(), explained(&error));
                tracing::error!(%path, error, "access log not reopened, previous file still written");
                self.is_adrift = true;
            }
            Err(_) => {}
        }
    }

    /// Writes lines. Returns how many of them are lost.
    fn write(&mut self, mut lines: &[u8]) -> u64 {
        if lines.is_empty() {
            return 0;
        }
        if self.is_torn {
            // Only the rest of that line is lost, not the next line too.
            match self.file.write_all(b"\n") {
                Ok(()) => self.is_torn = false,
                Err(error) => return self.lose(lines, &error),
            }
        }
        while !lines.is_empty() {
            match self.file.write(lines) {
                Ok(0) => return self.lose(lines, &io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.is_torn = lines[written - 1] != b'\n';
                    lines = &lines[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.lose(lines, &error),
            }
        }
        if mem::take(&mut self.has_failed) {
            tracing::info!("access log written again");
        }
        0
    }

    fn lose(&mut self, lines: &[u8], error: &io::Error) -> u64 {
        if !mem::replace(&mut self.has_failed, true) {
            let path = self.path.as_deref().unwrap_or(Path::new("-")).display();
            tracing::error!(%path, %error, "access log not writable, its lines are lost meanwhile");
        }
        lines.iter().filter(|byte| **byte == b'\n').count() as u64
    }
}

/// Opens a file for appending. A pipe that nobody reads is an error, not a wait.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640);
    let file = options.clone().custom_flags(libc::O_NONBLOCK).open(path)?;
    // Later writes may block: by then the pipe has a reader, which may be slow.
    if file.metadata()?.is_file() { Ok(file) } else { options.open(path) }
}

fn explained(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENXIO) => "it is a pipe that nobody reads".into(),
        _ => error.to_string(),
    }
}
