//! The command lines of commands that ask a running server.

use clap::Args;
use http::Uri;
use std::time::Duration;

use super::duration;
use crate::traffic::Selector;

/// What `onnxd infer` is given.
#[derive(Debug, Args)]
pub struct Infer {
    /// The model.
    pub model: String,

    /// Files of any kind, or - for stdin; NAME= says which input a file is for, and is needed with several files.
    #[arg(value_name = "[NAME=]FILE")]
    pub inputs: Vec<String>,

    /// Its version, or an alias of one such as `canary`; without it the server chooses.
    #[arg(long = "version", id = "model_version", value_name = "N|ALIAS", value_parser = version_or_alias)]
    pub model_version: Option<String>,

    /// The server's HTTP port, with a path where a proxy wants one.
    #[arg(long, value_name = "URL", env = "ONNXD_URL", default_value = "http://localhost:8000", value_parser = url)]
    pub url: Uri,

    /// Print the answer as the protocol has it, in JSON on one line.
    #[arg(long)]
    pub json: bool,

    /// How long the answer may take.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration)]
    pub timeout: Duration,
}

/// What `onnxd health` is given.
#[derive(Debug, Args)]
pub struct Health {
    /// The server's HTTP port, with a path where a proxy wants one.
    #[arg(long, value_name = "URL", env = "ONNXD_URL", default_value = "http://localhost:8000", value_parser = url)]
    pub url: Uri,

    /// How long the answer may take.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub timeout: Duration,
}

/// What a request may have in place of a version.
fn version_or_alias(text: &str) -> Result<String, String> {
    match Selector::parse("", text) {
        Ok(Selector::Version(_) | Selector::Alias(_)) => Ok(text.into()),
        Ok(Selector::Any) | Err(_) => Err("a version is an integer > 0, or an alias".into()),
    }
}

/// Where a server is; HTTP is what an address without a scheme means.
pub(super) fn url(text: &str) -> Result<Uri, String> {
    let expected = "expected http://HOST[:PORT][/PATH]";
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url: Uri = full.parse().map_err(|error| format!("{expected}: {error}"))?;
    match (url.scheme_str(), url.host().is_some_and(|host| !host.is_empty())) {
        (Some("http"), true) if url.query().is_none() => Ok(url),
        (Some("https"), _) => Err(format!("{expected}: https is not supported")),
        _ => Err(expected.into()),
    }
}
