//! Resolves the value of each setting: options win over the environment, and the environment wins over the file.
//!
//! The parser of the command line checks every setting. Variables and keys of the file pass the same checks: their values
//! become the defaults of the options.

use clap::{
    Arg, ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches,
    builder::{OsStr, Resettable},
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};
use std::{
    any::TypeId,
    env,
    error::Error as _,
    ffi::OsString,
    fmt::Display,
    fs::File,
    path::{Path, PathBuf},
    process::ExitCode,
};
use toml::de::DeValue;

use super::{
    Cli, Command, Settings,
    environment::{UnknownVariable, unknown_variables},
    help,
};
use crate::config::{
    ByteSize, Ratio,
    document::{self, Document, Entry},
};

/// A command with the settings that hold for it.
#[derive(Debug)]
pub struct Invocation {
    /// The command.
    pub command: Command,
    /// The server's settings, where the command has them.
    pub settings: Vec<Setting>,
    /// Variables of the environment that nothing reads.
    pub unknown_variables: Vec<UnknownVariable>,
}

/// A setting of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The setting's name in the file.
    pub key: String,
    /// The setting's value in TOML; `None` where it is not set and has no default.
    pub value: Option<String>,
    /// Origin of the value: an option, a variable, a line of a file, or `default`.
    pub origin: String,
}

/// Errors in the settings, one line for each.
#[derive(Debug)]
pub struct Problems {
    /// The lines.
    pub lines: Vec<String>,
    /// Exit code of the process.
    pub code: ExitCode,
}

/// Value of a setting from a variable or the file.
struct Given {
    id: String,
    value: OsString,
    origin: String,
}

/// Reads the command line, the environment and the file. Ends the process to print help or if the command line is wrong.
///
/// # Errors
/// A variable or the file is wrong.
pub fn read() -> Result<Invocation, Problems> {
    // Variables are read below. Here they would count even when empty, and their errors would be blamed on the option.
    let command = bare(help::command());
    let matches = command.clone().try_get_matches().unwrap_or_else(|error| {
        if error.kind() == ErrorKind::DisplayHelp {
            // This help shows the variables too.
            help::command().get_matches();
        }
        error.exit()
    });
    let (names, said) = innermost(&matches);
    let mut environment = Vec::new();
    let mut wrong = Vec::new();
    let full = names.iter().try_fold(Cli::command(), |command, name| command.find_subcommand(name).cloned());
    for arg in full.iter().flat_map(|command| command.get_arguments()) {
        let Some((variable, value)) = variable(arg).filter(|_| !is_option(said, arg)) else { continue };
        match check(arg, &value) {
            Ok(()) => environment.push(Given { id: arg.get_id().to_string(), value, origin: variable }),
            Err(why) => wrong.push(format!("{variable}: invalid value '{}': {why}", value.to_string_lossy())),
        }
    }
    let code = ExitCode::from(if wrong.is_empty() { 1 } else { 2 });
    let named = environment.iter().find(|given| given.id == "config").map(|given| PathBuf::from(&given.value));
    // Not every command has --config.
    let option = said.try_get_one::<PathBuf>("config").ok().flatten().cloned();
    let mut given = environment;
    if let Some(path) = option.or(named) {
        match read_file(&path) {
            // The environment follows the file, and wins.
            Ok(file) => given = file.into_iter().chain(given).collect(),
            Err(problems) => wrong.extend(problems),
        }
    }
    if !wrong.is_empty() {
        return Err(Problems { lines: wrong, code });
    }
    let command = mut_innermost(command, &names, &|subcommand| {
        subcommand.mut_args(|arg| match given.iter().rfind(|given| arg.get_id() == given.id.as_str()) {
            Some(given) => arg.default_value(OsStr::from(&given.value)),
            None => arg,
        })
    });
    let matches = command.get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let settings = effective(innermost(&matches).1, &given);
    Ok(Invocation { command: cli.command, settings, unknown_variables: unknown_variables() })
}

/// Removes the variables from a command and its subcommands.
fn bare(command: clap::Command) -> clap::Command {
    command.mut_args(|arg| arg.env(Resettable::<OsStr>::Reset)).mut_subcommands(bare)
}

/// Names of the invoked command, from the outermost, and its matches.
fn innermost(matches: &ArgMatches) -> (Vec<String>, &ArgMatches) {
    let (mut names, mut said) = (Vec::new(), matches);
    while let Some((name, inner)) = said.subcommand() {
        names.push(name.to_owned());
        said = inner;
    }
    (names, said)
}

fn mut_innermost(
    command: clap::Command,
    names: &[String],
    change: &dyn Fn(clap::Command) -> clap::Command,
) -> clap::Command {
    match names {
        [] => change(command),
        [name, inner @ ..] => command.mut_subcommand(name, |subcommand| mut_innermost(subcommand, inner, change)),
    }
}

/// The settings as arguments of a command line.
pub(in crate::commands) fn arguments() -> Vec<Arg> {
    Settings::augment_args(clap::Command::new("settings")).get_arguments().cloned().collect()
}

/// The variable of an argument, if it is set. An empty variable counts as not set: that is how variables without a value are
/// passed.
fn variable(arg: &Arg) -> Option<(String, OsString)> {
    let name = arg.get_env()?.to_str()?;
    env::var_os(name).filter(|value| !value.is_empty()).map(|value| (name.to_owned(), value))
}

fn is_option(matches: &ArgMatches, arg: &Arg) -> bool {
    matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine)
}

/// Checks a value with the argument's parser of the command line.
fn check(arg: &Arg, value: &OsString) -> Result<(), String> {
    let alone = arg.clone().env(Resettable::<OsStr>::Reset).action(ArgAction::Set).num_args(1).long("value");
    let command = clap::Command::new("check").no_binary_name(true).arg(alone);
    let mut option = OsString::from("--value=");
    option.push(value);
    let Err(error) = command.try_get_matches_from([option]) else { return Ok(()) };
    Err(match (error.source(), error.get(ContextKind::ValidValue)) {
        (Some(why), _) => why.to_string(),
        (None, Some(ContextValue::Strings(known))) => {
            let known: Vec<_> = known.iter().map(String::as_str).collect();
            let near = value.to_str().and_then(|value| document::nearest(value, &known));
            let meant = near.map(|near| format!("; did you mean '{near}'?")).unwrap_or_default();
            format!("expected one of {}{meant}", known.join(", "))
        }
        (None, _) => error.kind().to_string(),
    })
}

/// Reads the settings in a file.
fn read_file(path: &Path) -> Result<Vec<Given>, Vec<String>> {
    let name = path.display();
    let text = document::read(&name, File::open(path)).map_err(|why| vec![why])?;
    parse(&name, &text)
}

/// True if a text is a valid file of settings, for the fuzz targets.
#[cfg(any(fuzzing, test))]
pub(crate) fn parse_for_fuzzing(text: &str) -> bool {
    parse(&"onnxd.toml", text).is_ok()
}

fn parse(name: &dyn Display, text: &str) -> Result<Vec<Given>, Vec<String>> {
    let mut file = Document::parse(name, text, &[]);
    let arguments = arguments();
    let known: Vec<_> = arguments.iter().map(|arg| arg.get_id().as_str()).collect();
    let mut given = Vec::new();
    for Entry { key, value } in file.take_entries() {
        let Some(arg) = arguments.iter().find(|arg| arg.get_id() == key.get_ref().as_str()) else {
            file.unknown(&key, &known);
            continue;
        };
        let at = value.span().start;
        match text_of(arg, value.get_ref()) {
            Ok(text) => match check(arg, &text) {
                Ok(()) => given.push(Given { id: key.get_ref().clone(), value: text, origin: file.line(at) }),
                Err(why) => {
                    let came = document::describe(value.get_ref());
                    file.problem(at, format!("invalid value for {}: {came}: {why}", key.get_ref()));
                }
            },
            Err(expected) => {
                let came = document::describe(value.get_ref());
                file.problem(at, format!("{} must be {expected}, got {came}", key.get_ref()));
            }
        }
    }
    file.finish().map(|()| given)
}

/// Type of a setting's value in TOML.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TomlType {
    Integer,
    Boolean,
    String,
    /// A number of bytes, or text with a unit.
    Size,
    /// A number from 0 to 1.
    Ratio,
}

fn kind(arg: &Arg) -> TomlType {
    let is = |id: TypeId| arg.get_value_parser().type_id() == id;
    let integers = [
        TypeId::of::<u16>(),
        TypeId::of::<u32>(),
        TypeId::of::<u64>(),
        TypeId::of::<usize>(),
        TypeId::of::<i32>(),
        TypeId::of::<i64>(),
    ];
    if integers.into_iter().any(is) {
        TomlType::Integer
    } else if is(TypeId::of::<bool>()) {
        TomlType::Boolean
    } else if is(TypeId::of::<ByteSize>()) {
        TomlType::Size
    } else if is(TypeId::of::<Ratio>()) {
        TomlType::Ratio
    } else {
        TomlType::String
    }
}

/// Converts a TOML value to the text of an option.
fn text_of(arg: &Arg, value: &DeValue<'_>) -> Result<OsString, String> {
    match (kind(arg), value) {
        (TomlType::Integer | TomlType::Size, DeValue::Integer(_)) => {
            document::integer(value, 0..=u64::MAX).map(|number| number.to_string().into())
        }
        (TomlType::Ratio, DeValue::Integer(number)) => Ok(number.to_string().into()),
        (TomlType::Ratio, DeValue::Float(number)) => Ok(number.to_string().into()),
        (TomlType::Boolean, DeValue::Boolean(value)) => Ok(value.to_string().into()),
        (TomlType::String | TomlType::Size, DeValue::String(text)) => Ok(text.as_ref().into()),
        (TomlType::Integer, _) => Err("an integer".into()),
        (TomlType::Ratio, _) => Err("a number from 0 to 1".into()),
        (TomlType::Boolean, _) => Err("true or false".into()),
        (TomlType::Size, _) => Err("a number of bytes or a string such as \"64MiB\"".into()),
        (TomlType::String, _) => {
            let default = arg.get_default_values().first().and_then(|default| default.to_str());
            Err(default.map_or("a string".into(), |default| format!("a string such as {default:?}")))
        }
    }
}

/// Converts the text of an option to TOML.
pub(in crate::commands) fn as_toml(arg: &Arg, text: &str) -> String {
    match kind(arg) {
        TomlType::Integer | TomlType::Boolean | TomlType::Ratio => text.into(),
        TomlType::String | TomlType::Size => toml::Value::from(text).to_string(),
    }
}

fn effective(matches: &ArgMatches, given: &[Given]) -> Vec<Setting> {
    let setting = |arg: Arg| {
        let id = arg.get_id().as_str();
        let raw = matches.try_get_raw(id).ok()?;
        let value = raw.and_then(|mut values| values.next()).map(|value| as_toml(&arg, &value.to_string_lossy()));
        let origin = match given.iter().rfind(|given| given.id == id) {
            _ if is_option(matches, &arg) => format!("--{}", arg.get_long().unwrap_or(id)),
            Some(given) => given.origin.clone(),
            None => "default".into(),
        };
        Some(Setting { key: id.to_owned(), value, origin })
    };
    arguments().into_iter().filter_map(setting).collect()
}
