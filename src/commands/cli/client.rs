//! Command lines of `onnxd infer` and `onnxd health`, which call a running server.

use clap::Args;
use http::{HeaderName, HeaderValue, Uri};
use std::time::Duration;

use super::values::duration;
use crate::traffic::Selector;

/// Command line of `onnxd infer`.
#[derive(Debug, Args)]
pub struct Infer {
    /// The model.
    pub model: String,

    /// Files of any kind, or - for stdin. NAME= names the input that a file is for, and is needed with several files.
    #[arg(value_name = "[NAME=]FILE")]
    pub inputs: Vec<String>,

    /// The model's version, or an alias such as `canary`. Without it the server chooses.
    #[arg(long = "version", id = "model_version", value_name = "N|ALIAS", value_parser = version_or_alias)]
    pub model_version: Option<String>,

    /// A routing key, such as a user: requests with one key go to one version.
    #[arg(long, value_name = "KEY", value_parser = routing_key)]
    pub routing_key: Option<HeaderValue>,

    /// A header of the request; may be given several times.
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    pub headers: Vec<(HeaderName, HeaderValue)>,

    /// The server's HTTP port, with a path where a proxy wants one.
    #[arg(long, value_name = "URL", env = "ONNXD_URL", default_value = "http://localhost:8000", value_parser = url)]
    pub url: Uri,

    /// Print the answer as the protocol has it, in JSON on one line.
    #[arg(long)]
    pub json: bool,

    /// Time that the answer may take.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration)]
    pub timeout: Duration,
}

/// Command line of `onnxd health`.
#[derive(Debug, Args)]
pub struct Health {
    /// The server's HTTP port, with a path where a proxy wants one.
    #[arg(long, value_name = "URL", env = "ONNXD_URL", default_value = "http://localhost:8000", value_parser = url)]
    pub url: Uri,

    /// Time that the answer may take.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub timeout: Duration,
}

/// Parses a version or an alias, as a request may name them.
fn version_or_alias(text: &str) -> Result<String, String> {
    match Selector::parse("", text) {
        Ok(Selector::Version(_) | Selector::Alias(_)) => Ok(text.into()),
        Ok(Selector::Any) | Err(_) => Err("a version is an integer > 0, or an alias".into()),
    }
}

/// Headers that the command sets itself.
const OWN_HEADERS: [&str; 6] =
    ["connection", "content-length", "content-type", "host", "inference-header-content-length", "transfer-encoding"];

/// A routing key as a header's value, which may be any text without control characters.
fn routing_key(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_bytes(text.as_bytes()).map_err(|error| error.to_string())
}

/// A header as curl takes it.
fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("expected NAME: VALUE")?;
    let name: HeaderName = name.trim().parse().map_err(|error| format!("expected NAME: VALUE: {error}"))?;
    if OWN_HEADERS.contains(&name.as_str()) {
        return Err(format!("the command sets '{name}' itself"));
    }
    let value = HeaderValue::from_bytes(value.trim().as_bytes()).map_err(|error| format!("'{name}': {error}"))?;
    Ok((name, value))
}

/// Parses the address of a server. An address without a scheme means HTTP.
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
