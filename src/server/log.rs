//! Stderr: log lines, panics, and on a terminal a progress bar while models load. One thread writes all of them.

use indicatif::{ProgressBar, ProgressStyle};
use std::{
    backtrace::{Backtrace, BacktraceStatus},
    fs::File,
    io::{self, IsTerminal, Write},
    os::fd::AsFd,
    panic::{self, PanicHookInfo},
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};
use tracing::{Level, Metadata};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use super::log_queue::{Bar, Importance, LogQueue};
use crate::registry::LoadProgress;

/// Time that the end of the process waits for the last lines to be written.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(1);

/// Time that a panic waits for its message to be written, as the process may abort right after it.
const PANIC_MESSAGE_TIMEOUT: Duration = Duration::from_millis(100);

/// Pause before the next write to a full pipe in non-blocking mode.
const FULL_PIPE_PAUSE: Duration = Duration::from_millis(20);

/// The target of the lines that report panics.
const PANIC_TARGET: &str = "onnxd::panic";

/// The queue of the process, once logging has started.
static QUEUE: OnceLock<Arc<LogQueue>> = OnceLock::new();

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// The log of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Format of the lines.
    pub format: LogFormat,
    /// Least level that is logged, or one per target.
    pub level: String,
}

/// Starts the log of the process, panics included. A process has one.
///
/// # Errors
/// The level is invalid, or the system gives no thread.
pub fn start(config: &LogConfig) -> Result<Console, String> {
    Console::start(config)
}

/// Stderr of the server: log lines, and on a terminal a progress bar.
#[derive(Clone)]
pub struct Console {
    queue: Arc<LogQueue>,
    has_bar: bool,
}

impl Console {
    /// Starts logging, and installs a hook that logs panics.
    fn start(config: &LogConfig) -> Result<Self, String> {
        let level = &config.level;
        let filter = EnvFilter::try_new(level).map_err(|error| format!("--log-level '{level}': {error}"))?;
        let failed = |why: &dyn std::fmt::Display| format!("logging can't be started: {why}");
        // A lock on stderr would be held while a write blocks.
        let stderr = io::stderr().as_fd().try_clone_to_owned().map_err(|error| failed(&error))?;
        let is_terminal = stderr.is_terminal();
        let queue = Arc::new(LogQueue::default());
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(QueueWriter::new(&queue));
        let started = match config.format {
            LogFormat::Text => lines.with_ansi(is_terminal).try_init(),
            LogFormat::Json => lines.json().flatten_event(true).try_init(),
        };
        started.map_err(|error| failed(&error))?;
        let mut writer = Writer { queue: queue.clone(), stderr: stderr.into(), bar: None };
        let thread = thread::Builder::new().name("log".into()).spawn(move || writer.run());
        thread.map_err(|error| failed(&error))?;
        QUEUE.get_or_init(|| queue.clone());
        panic::set_hook(Box::new(log_panic));
        Ok(Console { queue, has_bar: is_terminal })
    }

    /// Shows the progress of the loads.
    pub(super) fn progress(&self, event: &LoadProgress<'_>) {
        if !self.has_bar {
            return;
        }
        match event {
            LoadProgress::Begin(versions) => {
                self.queue.update_bar(|_| Some(Bar { total: *versions as u64, ..Bar::default() }));
            }
            LoadProgress::Done { model, version } => self.queue.update_bar(|bar| {
                bar.map(|bar| Bar { done: bar.done + 1, latest: format!("{model} {version}"), ..bar })
            }),
            LoadProgress::End => self.queue.update_bar(|_| None),
        }
    }
}

/// Log lines that were dropped, since the process started.
pub(super) fn dropped_lines() -> u64 {
    QUEUE.get().map_or(0, |queue| queue.dropped())
}

/// Waits until the log is written, for as long as the end of the process may wait for it.
pub(super) fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(LAST_LINES_TIMEOUT);
    }
}

/// Reports why a command failed, on stderr.
pub fn report(why: &str) {
    let line = format!("onnxd: {why}\n");
    match QUEUE.get() {
        Some(queue) => {
            queue.push(line.as_bytes(), Importance::Warning);
            flush();
        }
        // Without a reader, the exit code is the only report.
        None => drop(io::stderr().write_all(line.as_bytes())),
    }
}

/// Logs a panic. Rust's own hook would block the thread that panicked until stderr is written.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let error = panic.payload_as_str().unwrap_or("its payload is no text");
    let location = panic.location().map_or_else(String::new, ToString::to_string);
    let current = thread::current();
    let thread = current.name().unwrap_or("unnamed");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        tracing::error!(target: PANIC_TARGET, error, thread, location, %backtrace, "thread panicked");
    } else {
        tracing::error!(target: PANIC_TARGET, error, thread, location, "thread panicked");
    }
    if let Some(queue) = QUEUE.get() {
        queue.flush(PANIC_MESSAGE_TIMEOUT);
    }
}

/// The thread that writes to stderr.
struct Writer {
    queue: Arc<LogQueue>,
    stderr: File,
    bar: Option<ProgressBar>,
}

impl Writer {
    fn run(&mut self) {
        loop {
            let batch = self.queue.take();
            self.draw(batch.bar.as_ref());
            let written = match &self.bar {
                Some(bar) => bar.suspend(|| write(&self.stderr, &batch.lines)),
                None => write(&self.stderr, &batch.lines),
            };
            if written.is_err() {
                // The reader of the log has gone. The server goes on.
                let lines = batch.lines.iter().filter(|byte| **byte == b'\n').count();
                self.queue.lose(lines as u64);
            } else if batch.dropped > 0 {
                tracing::warn!(lines = batch.dropped, "log lines dropped, stderr was not read in time");
            }
        }
    }

    fn draw(&mut self, bar: Option<&Bar>) {
        match bar {
            Some(Bar { total, done, latest }) => {
                let shown = self.bar.get_or_insert_with(|| {
                    let style = ProgressStyle::with_template("loading {bar:30} {pos}/{len} {msg}");
                    ProgressBar::new(*total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
                });
                shown.set_length(*total);
                shown.set_message(latest.clone());
                shown.set_position(*done);
            }
            None => {
                if let Some(bar) = self.bar.take() {
                    bar.finish_and_clear();
                }
            }
        }
    }
}

fn write(mut stderr: &File, mut lines: &[u8]) -> io::Result<()> {
    while !lines.is_empty() {
        match stderr.write(lines) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => lines = &lines[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Another process may have set the pipe that it shares with this one to non-blocking mode.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(FULL_PIPE_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Appends the lines of events to the queue.
struct QueueWriter {
    queue: Arc<LogQueue>,
    importance: Importance,
}

impl QueueWriter {
    fn new(queue: &Arc<LogQueue>) -> Self {
        QueueWriter { queue: queue.clone(), importance: Importance::Usual }
    }
}

impl Write for QueueWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue.push(line, self.importance);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for QueueWriter {
    type Writer = QueueWriter;

    fn make_writer(&'a self) -> QueueWriter {
        QueueWriter::new(&self.queue)
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> QueueWriter {
        let importance = if event.target() == module_path!() {
            // This module logs nothing else under its own name.
            Importance::DropNotice
        } else if *event.level() <= Level::WARN {
            Importance::Warning
        } else {
            Importance::Usual
        };
        QueueWriter { queue: self.queue.clone(), importance }
    }
}
