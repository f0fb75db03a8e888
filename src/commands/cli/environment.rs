//! Environment variables with this program's prefix that no setting reads.

use clap::CommandFactory;
use std::{env, fmt};

use super::Cli;
use crate::config::document::nearest;

/// Beginning of the names of this program's variables.
const PREFIX: &str = "ONNXD_";

/// Variables that are no setting of a command: the folder that the build fetches libraries into.
const OTHERS: [&str; 1] = ["ONNXD_CACHE_DIR"];

/// A variable that nothing reads.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownVariable {
    /// The variable's name.
    pub name: String,
    /// The known name that is nearest, where one is near.
    pub nearest: Option<String>,
}

impl fmt::Display for UnknownVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UnknownVariable { name, nearest } = self;
        write!(f, "the environment variable {name} is no setting and is ignored")?;
        nearest.iter().try_for_each(|near| write!(f, "; did you mean {near}?"))
    }
}

/// The variables of this process that nothing reads, by name.
pub(super) fn unknown_variables() -> Vec<UnknownVariable> {
    let set = env::vars_os().filter(|(_, value)| !value.is_empty());
    let mut names: Vec<String> = set.filter_map(|(name, _)| name.into_string().ok()).collect();
    names.sort();
    let mut known: Vec<String> = OTHERS.map(String::from).into();
    collect(&Cli::command(), &mut known);
    unknown(names, &known)
}

/// Adds the variables of a command and of those in it.
fn collect(command: &clap::Command, known: &mut Vec<String>) {
    known.extend(command.get_arguments().filter_map(|arg| Some(arg.get_env()?.to_str()?.to_owned())));
    command.get_subcommands().for_each(|command| collect(command, known));
}

fn unknown(names: Vec<String>, known: &[String]) -> Vec<UnknownVariable> {
    // Compared without the common prefix, which would make all names similar.
    let rests: Vec<&str> = known.iter().filter_map(|name| name.strip_prefix(PREFIX)).collect();
    let unknown = |name: String| {
        let rest = name.strip_prefix(PREFIX)?;
        if known.contains(&name) || rest.starts_with("TEST_") || is_of_kubernetes(rest) {
            return None;
        }
        let nearest = nearest(rest, &rests).map(|near| format!("{PREFIX}{near}"));
        Some(UnknownVariable { name, nearest })
    };
    names.into_iter().filter_map(unknown).collect()
}

/// True for variables that Kubernetes sets in every pod for a service whose name begins with `onnxd`: `ONNXD_SERVICE_HOST`,
/// `ONNXD_PORT_8000_TCP_ADDR` and others.
fn is_of_kubernetes(rest: &str) -> bool {
    let has_word = |word: &str| rest == word || rest.ends_with(&format!("_{word}"));
    let begins_word = |word: &str| rest.starts_with(word) || rest.contains(&format!("_{word}"));
    has_word("PORT") || has_word("SERVICE_HOST") || begins_word("SERVICE_PORT") || {
        let digit = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
        rest.split("PORT_").skip(1).any(digit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_variables_are_named_with_the_nearest() {
        let known = ["ONNXD_HTTP", "ONNXD_MAX_RUN_TIME", "ONNXD_CACHE_DIR"].map(String::from);
        let names = [
            "HOME",
            "ONNXD_HTTP",
            "ONNXD_HTP",
            "ONNXD_MAX_RUNTIME",
            "ONNXD_COLOUR",
            "ONNXD_TEST_ROUNDS",
            "ONNXD_PORT",
            "ONNXD_PORT_8000_TCP",
            "ONNXD_PORT_8000_TCP_ADDR",
            "ONNXD_SERVICE_HOST",
            "ONNXD_SERVICE_PORT_HTTP",
            "ONNXD_CANARY_SERVICE_HOST",
            "ONNXD_CANARY_PORT_8001_TCP_PORT",
        ];
        let message: Vec<_> = unknown(names.map(String::from).into(), &known).iter().map(ToString::to_string).collect();
        assert_eq!(
            message,
            [
                "the environment variable ONNXD_HTP is no setting and is ignored; did you mean ONNXD_HTTP?",
                "the environment variable ONNXD_MAX_RUNTIME is no setting and is ignored; did you mean ONNXD_MAX_RUN_TIME?",
                "the environment variable ONNXD_COLOUR is no setting and is ignored",
            ]
        );
    }
}
