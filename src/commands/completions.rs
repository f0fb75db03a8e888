//! What shells and `man` want to know of the command line, made of its own parser.

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
};

use super::cli::Cli;

/// What `onnxd completions` is given.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell.
    pub shell: Shell,
}

/// What `onnxd man` is given.
#[derive(Debug, Args)]
pub struct Man {
    /// Write the pages of all commands into this folder instead (onnxd.1, onnxd-serve.1, ...); it is made where it is missing.
    #[arg(value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

/// Prints the completions of a shell.
///
/// # Errors
/// Nothing can be written.
pub fn completions(asked: &Completions) -> Result<(), String> {
    // Into memory first: the generator panics where it can't write.
    let mut script = Vec::new();
    clap_complete::generate(asked.shell, &mut Cli::command(), "onnxd", &mut script);
    print(&script)
}

/// Prints the manual page of the whole, or writes those of all commands.
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

/// Without the commands `help`: they would get pages that tell nothing.
fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}

fn print(text: &[u8]) -> Result<(), String> {
    match io::stdout().lock().write_all(text) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| format!("stdout: {error}")),
    }
}
