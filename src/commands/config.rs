//! Settings for people, as TOML.

use clap::Arg;
use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use super::cli::{
    Config,
    resolve::{Setting, arguments, as_toml},
};
use crate::config::ModelConfig;

/// Characters of a line of documentation.
const WIDTH: usize = 100;

/// Prints the settings in effect, or those at their defaults with their documentation.
///
/// # Errors
/// Nothing can be written.
pub fn show(config: &Config, settings: &[Setting]) -> Result<(), String> {
    let text = match config {
        Config { model: true, .. } => {
            let about =
                "Settings of a model: config.toml in its folder. Every key is optional; it stands at its default.";
            format!("# {about}\n\n{}", ModelConfig::documented())
        }
        Config { defaults: true, .. } => {
            let about = "Settings of onnxd: onnxd serve DIR --config FILE. Every key is optional; it stands at its default. \
                         Options and the environment win over the file.";
            let keys = arguments().iter().map(documented).collect::<String>();
            format!("{}{keys}", comment(about))
        }
        _ => in_effect(settings),
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // A reader that has closed stdout is no error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| format!("stdout: {error}")),
    }
}

/// A setting at its default, with its documentation.
fn documented(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let key = arg.get_id();
    let line = match arg.get_default_values().first() {
        Some(default) => format!("{key} = {}", as_toml(arg, &default.to_string_lossy())),
        None => format!("# {key} = {}", as_toml(arg, arg.get_value_names().map_or("", |names| names[0].as_str()))),
    };
    format!("\n{}{line}\n", comment(&help))
}

/// The text in lines of comments.
fn comment(text: &str) -> String {
    let mut lines = String::new();
    for paragraph in text.lines().filter(|paragraph| !paragraph.is_empty()) {
        let mut width = usize::MAX;
        for word in paragraph.split_whitespace() {
            if width.saturating_add(word.len() + 1) > WIDTH {
                lines.push_str(if lines.is_empty() { "#" } else { "\n#" });
                width = 1;
            }
            lines.push(' ');
            lines.push_str(word);
            width += word.len() + 1;
        }
    }
    // Help has no full stop at its end.
    lines.push_str(if lines.ends_with('.') { "\n" } else { ".\n" });
    lines
}

/// Every setting that holds, with its origin.
fn in_effect(settings: &[Setting]) -> String {
    let lines: Vec<_> = settings
        .iter()
        .map(|Setting { key, value, origin }| match value {
            Some(value) => (format!("{key} = {value}"), origin.as_str()),
            None => (format!("# {key} ="), "not set"),
        })
        .collect();
    let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0);
    lines.iter().fold(String::new(), |mut text, (line, origin)| {
        // Writing into memory can't fail.
        let _ = writeln!(text, "{line:width$}  # {origin}");
        text
    })
}
