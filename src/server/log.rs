//! What people see on stderr: log lines, and on a terminal a progress bar while models load.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::{
    io::{self, IsTerminal, Write},
    sync::{Mutex, PoisonError},
};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::{
    cli::{LogFormat, Settings},
    registry::Progress,
};

/// Stderr.
pub(super) struct Console {
    bars: MultiProgress,
    bar: Mutex<Option<ProgressBar>>,
}

impl Console {
    /// Starts logging.
    pub(super) fn start(settings: &Settings) -> Result<Self, String> {
        let level = &settings.log_level;
        let filter = EnvFilter::try_new(level).map_err(|error| format!("--log-level '{level}': {error}"))?;
        // Bars draw on a terminal only.
        let bars = MultiProgress::new();
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Lines(bars.clone()));
        let started = match settings.log_format {
            LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).try_init(),
            LogFormat::Json => lines.json().flatten_event(true).try_init(),
        };
        started.map_err(|error| format!("logging can't be started: {error}"))?;
        Ok(Console { bars, bar: Mutex::default() })
    }

    /// Shows how far the loading is.
    pub(super) fn progress(&self, event: &Progress<'_>) {
        let mut bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Progress::Begin(versions) => {
                let style = ProgressStyle::with_template("loading {bar:30} {pos}/{len} {msg}");
                let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
                *bar = Some(self.bars.add(ProgressBar::new(*versions as u64).with_style(style)));
            }
            Progress::Done { model, version } => {
                if let Some(bar) = &*bar {
                    bar.set_message(format!("{model} {version}"));
                    bar.inc(1);
                }
            }
            Progress::End => {
                if let Some(bar) = bar.take() {
                    bar.finish_and_clear();
                }
            }
        }
    }
}

/// Writes lines between redraws of the bar.
#[derive(Clone)]
struct Lines(MultiProgress);

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Who read the log may have ended. That is lost, and nothing else: told of an error, `tracing` would print it on the
        // same stderr, which panics.
        let _ = self.0.suspend(|| io::stderr().write_all(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

/// Tells why a command failed, on stderr.
pub fn report(why: &str) {
    // Logging may not have started. Where nobody reads, the exit code has to say it.
    let _ = writeln!(io::stderr(), "onnxd: {why}");
}
