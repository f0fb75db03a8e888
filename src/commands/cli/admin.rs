//! Command lines of the commands that call a running server's admin API.

use clap::{Args, Subcommand};
use http::Uri;
use std::{path::PathBuf, str::FromStr, time::Duration};

use super::{client::url, values::duration};
use crate::traffic::VersionName;

/// The port of the admin API where an address names none.
const PORT: u16 = 8003;

/// Commands for the models of a running server.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Show the models and versions of a running server.
    ///
    /// Prints one line per version: its state, its weight, its current share of the requests that name no version, and its
    /// aliases. Then
    /// come the source of weight and aliases (config.toml, the admin call of a revision, or none), the time since it entered
    /// its state, and
    /// the load of its files that serves. They are followed by its device, whether it runs in worker processes, and the memory
    /// that it takes.
    /// Problems are listed below the table. For one model, so is the reason why it runs in worker processes.
    #[command(after_help = "\
Examples:
  onnxd models
  onnxd models purchase --server models.example:8003
  onnxd models --json | jq '.models[].versions[] | select(.state == \"FAILED\")'")]
    Models {
        /// Only this model.
        model: Option<String>,
        /// Server to call.
        #[command(flatten)]
        server: ServerArgs,
    },

    /// Divide requests over versions.
    ///
    /// Weights divide the requests that name no version over versions that are READY, in any numbers: 2=95 3=5 is as good as
    /// 2=19 3=1. A request with a routing key goes to the same version every time.
    #[command(subcommand)]
    Traffic(TrafficCommand),

    /// Give versions names that requests may use.
    ///
    /// A request may name an alias in place of a version. Where a model has no weights, `stable` takes the requests that name
    /// no version.
    #[command(subcommand)]
    Alias(Alias),

    /// Give a version all requests, and the alias `stable`.
    #[command(after_help = "\
Examples:
  onnxd promote purchase canary
  onnxd promote purchase 3 --expect-revision 12 --reason 'as good for a week'")]
    Promote {
        /// The model.
        model: String,
        /// The version, or an alias.
        version: VersionName,
        /// Conditions of the change.
        #[command(flatten)]
        terms: Terms,
        /// Server to call.
        #[command(flatten)]
        server: ServerArgs,
    },

    /// Take back the last change of weights and aliases; again, the one before.
    ///
    /// Every request that begins after this command has returned goes where it went before the change. The current config.toml
    /// does not matter.
    #[command(after_help = "\
Examples:
  onnxd rollback purchase --reason 'too many wrong answers'
  onnxd rollback purchase --to 12    as it was at revision 12 of `onnxd history purchase`")]
    Rollback {
        /// The model.
        model: String,
        /// Go back to this revision: weights and aliases as they were with that change.
        #[arg(long, value_name = "REVISION")]
        to: Option<u64>,
        /// Conditions of the change.
        #[command(flatten)]
        terms: Terms,
        /// Server to call.
        #[command(flatten)]
        server: ServerArgs,
    },

    /// Take back all steps of a rollout in one call.
    ///
    /// Takes back every change of weights and aliases since the start of the rollout. That is when all requests that name no
    /// version last went to one version, or when a promotion or config.toml last decided. Traffic that went from 0 to 1 to 5 to
    /// 25 percent is back at 0.
    #[command(after_help = "\
Example:
  onnxd abort purchase --reason 'too many wrong answers'")]
    Abort {
        /// The model.
        model: String,
        /// Conditions of the change.
        #[command(flatten)]
        terms: Terms,
        /// Server to call.
        #[command(flatten)]
        server: ServerArgs,
    },

    /// Show the changes of a model: author, time and reason.
    #[command(after_help = "\
Example:
  onnxd history purchase")]
    History {
        /// The model.
        model: String,
        /// Server to call.
        #[command(flatten)]
        server: ServerArgs,
    },

    /// Show which version a request would get, and why.
    #[command(after_help = "\
Examples:
  onnxd explain purchase --key user-7    a request with this routing key
  onnxd explain purchase                 a request without one
  onnxd explain purchase --alias canary")]
    Explain {
        /// The model.
        model: String,
        /// The routing key of the request.
        #[arg(long)]
        key: Option<String>,
        /// The version, or the alias, that the request names.
        #[arg(long = "version", id = "model_version", value_name = "N|ALIAS")]
        version: Option<VersionName>,
        /// The alias that the request names.
        #[arg(long, value_name = "NAME", conflicts_with = "model_version")]
        alias: Option<String>,
        /// Server to call.
        #[command(flatten)]
        server: ServerArgs,
    },

    /// Load a version, and wait until it is READY.
    ///
    /// Without a version: loads every version that the repository holds. A loaded version stays loaded over restarts, until it
    /// is unloaded.
    #[command(after_help = "\
Examples:
  onnxd load purchase 3
  onnxd load purchase --no-wait")]
    Load(Loading),

    /// Unload a version; requests in flight are finished.
    ///
    /// Without a version: unloads every version of the model. An unloaded version stays unloaded over restarts, until it is
    /// loaded. The
    /// server refuses to unload a version that gets requests which name no version, or that an alias points to.
    #[command(after_help = "\
Examples:
  onnxd unload purchase 3
  onnxd unload purchase@canary --force")]
    Unload {
        /// The model; MODEL@VERSION names a version too.
        model: String,
        /// The version, or an alias.
        version: Option<VersionName>,
        /// Unload it though it gets requests, or an alias points to it.
        #[arg(long)]
        force: bool,
        /// Conditions of the change.
        #[command(flatten)]
        terms: Terms,
        /// Server to call.
        #[command(flatten)]
        server: ServerArgs,
    },

    /// Reload a version from its files, swap it in, and wait for that.
    ///
    /// Without a version: reloads every loaded version. The current load goes on serving until the new one serves, and if the
    /// reload fails.
    #[command(after_help = "\
Example:
  onnxd reload purchase 3")]
    Reload(Loading),

    /// Follow state and traffic changes as they happen.
    ///
    /// Prints the state of every version and model first, then one line for each change. It runs until it is interrupted or the
    /// server ends.
    #[command(after_help = "\
Examples:
  onnxd watch
  onnxd watch purchase --json")]
    Watch {
        /// Only this model.
        model: Option<String>,
        /// Server to call.
        #[command(flatten)]
        server: ServerArgs,
    },
}

/// Commands for weights.
#[derive(Debug, Subcommand)]
pub enum TrafficCommand {
    /// Show weights, the current shares of the requests, and the source of both.
    ///
    /// SOURCE is config.toml; or the admin call of a revision, and then config.toml does not count until `onnxd traffic reset`; or
    /// default: nothing decides, and the highest version that is READY takes the requests.
    #[command(after_help = "\
Example:
  onnxd traffic show purchase")]
    Show {
        /// Only this model.
        model: Option<String>,
        /// Server to call.
        #[command(flatten)]
        server: ServerArgs,
    },

    /// Set the weights of a model. Versions that are not named get none.
    #[command(after_help = "\
Examples:
  onnxd traffic set purchase 2=95 3=5
  onnxd traffic set purchase stable=95 canary=5
  onnxd traffic set purchase 2=1 --reason 'version 3 is slow'")]
    Set {
        /// The model.
        model: String,
        /// The weight of a version, or of the version that an alias points to: a number of at least 0.
        #[arg(value_name = "VERSION=WEIGHT", required = true)]
        weights: Vec<Weight>,
        /// Conditions of the change.
        #[command(flatten)]
        terms: Terms,
        /// Server to call.
        #[command(flatten)]
        server: ServerArgs,
    },

    /// Move percent of the requests from one version to another.
    ///
    /// Of a model without weights, the version that gets the requests now has all 100.
    #[command(after_help = "\
Examples:
  onnxd traffic shift purchase 2 3 5    five percent from version 2 to version 3
  onnxd traffic shift purchase stable canary 5")]
    Shift {
        /// The model.
        model: String,
        /// The version, or the alias, that loses requests.
        from: VersionName,
        /// The version, or the alias, that gains them.
        to: VersionName,
        /// Percentage points to move: more than 0, and at most the share of the first version.
        points: f64,
        /// Conditions of the change.
        #[command(flatten)]
        terms: Terms,
        /// Server to call.
        #[command(flatten)]
        server: ServerArgs,
    },

    /// Give the traffic of a model back to its config.toml.
    ///
    /// From then on, weights and aliases are those of config.toml and follow it, until the next change. Where config.toml has
    /// none, the highest version that is READY takes the requests. `onnxd rollback` takes the reset back.
    #[command(after_help = "\
Example:
  onnxd traffic reset purchase")]
    Reset {
        /// The model.
        model: String,
        /// Conditions of the change.
        #[command(flatten)]
        terms: Terms,
        /// Server to call.
        #[command(flatten)]
        server: ServerArgs,
    },
}

/// Commands for aliases.
#[derive(Debug, Subcommand)]
pub enum Alias {
    /// Show aliases.
    #[command(after_help = "\
Example:
  onnxd alias show purchase")]
    Show {
        /// Only this model.
        model: Option<String>,
        /// Server to call.
        #[command(flatten)]
        server: ServerArgs,
    },

    /// Point an alias at a version that is READY.
    #[command(after_help = "\
Example:
  onnxd alias set purchase canary 3")]
    Set {
        /// The model.
        model: String,
        /// The alias: a letter and up to 63 letters, digits, '-', '_' and '.'.
        alias: String,
        /// The version, or another alias of it.
        version: VersionName,
        /// Conditions of the change.
        #[command(flatten)]
        terms: Terms,
        /// Server to call.
        #[command(flatten)]
        server: ServerArgs,
    },

    /// Remove an alias.
    #[command(after_help = "\
Example:
  onnxd alias drop purchase canary")]
    Drop {
        /// The model.
        model: String,
        /// The alias.
        alias: String,
        /// Conditions of the change.
        #[command(flatten)]
        terms: Terms,
        /// Server to call.
        #[command(flatten)]
        server: ServerArgs,
    },
}

/// Arguments of `onnxd load` and `onnxd reload`.
#[derive(Debug, Args)]
pub struct Loading {
    /// The model; MODEL@VERSION names a version too.
    pub model: String,

    /// The version, or an alias.
    pub version: Option<VersionName>,

    /// Return as soon as the server has accepted the call.
    #[arg(long)]
    pub no_wait: bool,

    /// Time to wait at most, up to 1h.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub timeout: Duration,

    /// Conditions of the change.
    #[command(flatten)]
    pub terms: Terms,

    /// Server to call.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Conditions and record of a change: options of every command that makes one.
#[derive(Debug, Args)]
pub struct Terms {
    /// Refuse the change where the model has been changed since this revision.
    #[arg(long, value_name = "N")]
    pub expect_revision: Option<u64>,

    /// Reason for the change; the history keeps it.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,

    /// Name recorded for the change. Without it: USER@HOST.
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
}

/// The server to call, and the format of the output.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// The server's admin port: HOST:PORT, or a URL with a path where a proxy wants one.
    #[arg(long, value_name = "ADDR", env = "ONNXD_SERVER", default_value = "http://localhost:8003", value_parser = server)]
    pub server: Uri,

    /// A file with the token to show, where the server wants one: TOKEN or NAME:TOKEN on its first line.
    #[arg(long, value_name = "FILE", env = "ONNXD_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,

    /// Print the server's answer in JSON.
    #[arg(long)]
    pub json: bool,
}

/// The weight of a version, as it is typed.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight {
    /// The version.
    pub version: VersionName,
    /// Its weight.
    pub weight: f64,
}

impl FromStr for Weight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('=').and_then(|(version, weight)| {
            let weight: f64 = weight.parse().ok().filter(|weight: &f64| weight.is_finite() && *weight >= 0.0)?;
            Some(Weight { version: version.parse().ok()?, weight })
        });
        parsed.ok_or_else(|| "expected VERSION=WEIGHT such as 3=5 or canary=5, with a weight of at least 0".into())
    }
}

/// Splits `MODEL@VERSION`, where no version stands apart.
pub fn split_version(model: &str, version: Option<&VersionName>) -> (String, Option<VersionName>) {
    let named = || model.rsplit_once('@').and_then(|(name, version)| Some((name.to_owned(), version.parse().ok()?)));
    match version {
        Some(version) => (model.to_owned(), Some(version.clone())),
        None => named().map_or((model.to_owned(), None), |(name, version)| (name, Some(version))),
    }
}

/// Address of an admin API. Without a scheme and a port, the port is 8003.
fn server(text: &str) -> Result<Uri, String> {
    let server = url(text)?;
    if text.contains("://") || server.port().is_some() {
        return Ok(server);
    }
    let host = server.host().unwrap_or_default();
    url(&format!("{host}:{PORT}{}", server.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_address_gets_default_scheme_and_port() {
        let at = |text| server(text).map(|server| server.to_string());
        assert_eq!(at("models.example"), Ok("http://models.example:8003/".into()));
        assert_eq!(at("models.example:9"), Ok("http://models.example:9/".into()));
        assert_eq!(at("[::1]/onnxd"), Ok("http://[::1]:8003/onnxd".into()));
        assert_eq!(at("http://models.example/onnxd"), Ok("http://models.example/onnxd".into()));
        assert!(at("https://models.example").is_err());
    }

    #[test]
    fn model_and_version_may_be_one_word() {
        let split = |model, version: Option<u64>| split_version(model, version.map(VersionName::Number).as_ref());
        assert_eq!(split("m", None), ("m".into(), None));
        assert_eq!(split("m@3", None), ("m".into(), Some(VersionName::Number(3))));
        assert_eq!(split("a@b@stable", None), ("a@b".into(), Some(VersionName::Alias("stable".into()))));
        assert_eq!(split("a@b", Some(3)), ("a@b".into(), Some(VersionName::Number(3))));
    }

    #[test]
    fn weight_argument_parses_version_and_number() {
        assert_eq!("3=5".parse(), Ok(Weight { version: VersionName::Number(3), weight: 5.0 }));
        assert_eq!("canary=0.5".parse(), Ok(Weight { version: VersionName::Alias("canary".into()), weight: 0.5 }));
        for wrong in ["3", "3=", "=5", "3:5", "0=5", "a b=5", "3=-1", "3=NaN", "3=inf", "-3=5"] {
            assert!(wrong.parse::<Weight>().is_err(), "{wrong}");
        }
    }
}
