//! `onnxd completions` and `onnxd man`: shell completions and manual pages, generated from the parser of the command line.

use clap::{Command, CommandFactory};
use std::{fs, io};

use super::{
    cli::{Cli, Completions, Man},
    output::print,
};

/// Prints the completions of a shell.
///
/// # Errors
/// Nothing can be written.
pub fn completions(asked: &Completions) -> Result<(), String> {
    // The script is written into memory first: the generator panics if it can't write.
    let mut script = Vec::new();
    clap_complete::generate(asked.shell, &mut Cli::command(), "onnxd", &mut script);
    print(&script)
}

/// Prints the manual page of `onnxd`, or writes those of all commands.
///
/// # Errors
/// Nothing can be written.
pub fn man(asked: &Man) -> Result<(), String> {
    let command = without_help(Cli::command());
    let Some(directory) = &asked.directory else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(command).render(&mut page);
        rendered.map_err(|error| format!("the manual page can't be rendered: {error}"))?;
        return print(&page);
    };
    let failed = |error: io::Error| format!("{}: {error}", directory.display());
    fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(command, directory).map_err(failed)
}

/// Removes the commands `help`, whose pages would be empty.
fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}
