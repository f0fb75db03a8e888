//! The help of `onnxd`: its commands, in groups.

use clap::CommandFactory;
use std::fmt::Write as _;

use super::Cli;

/// The commands in the order in which people meet them.
const GROUPS: [(&str, &[&str]); 4] = [
    ("Serve models", &["serve", "check", "doctor", "config", "runtime"]),
    ("Ask a server for predictions", &["infer", "health"]),
    (
        "See and change what a server does",
        &[
            "models", "traffic", "alias", "promote", "rollback", "abort", "history", "explain", "load", "unload",
            "reload", "watch",
        ],
    ),
    ("Make it known to the shell and to man", &["completions", "man"]),
];

/// The command line, with the commands in groups in its help.
pub(super) fn command() -> clap::Command {
    let command = Cli::command();
    let header = command.get_styles().get_header();
    let literal = command.get_styles().get_literal();
    let mut text = "{about-with-newline}\n{usage-heading} {usage}\n".to_owned();
    for (title, names) in GROUPS {
        let _ = writeln!(text, "\n{header}{title}:{header:#}");
        for name in names {
            let about = command.find_subcommand(name).and_then(|command| command.get_about());
            let about = about.map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {literal}{name:11}{literal:#}  {about}");
        }
    }
    let _ = write!(text, "\n{header}Options:{header:#}\n{{options}}{{after-help}}");
    command.help_template(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_groups_list_every_command_once() {
        let mut grouped: Vec<_> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        grouped.sort_unstable();
        let command = Cli::command();
        let mut commands: Vec<_> = command.get_subcommands().map(clap::Command::get_name).collect();
        commands.sort_unstable();
        assert_eq!(grouped, commands);
    }
}
