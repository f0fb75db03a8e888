//! Target of requests: one model of one server over one protocol.

use percent_encoding::percent_decode_str;
use std::{
    fmt::{self, Display},
    str::FromStr,
};

/// A model to be asked, written as a URL: `grpc://HOST:PORT/MODEL?version=2&rows=4&weight=3`.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Protocol of the requests.
    pub protocol: Protocol,
    /// Name or address of the host.
    pub host: String,
    /// Port of the host.
    pub port: u16,
    /// Name of the model.
    pub model: String,
    /// Version of the model; `None` leaves the choice to the server.
    pub version: Option<String>,
    /// Extent of axis 0 where the model leaves it open.
    pub rows: usize,
    /// Share of the requests that go here, against the weights of the other targets.
    pub weight: f64,
    text: String,
}

/// Protocol of requests to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// gRPC with raw tensors.
    Grpc,
    /// HTTP/1.1 with binary tensors behind the JSON, both ways.
    HttpBinary,
    /// HTTP/1.1 with tensors in JSON.
    HttpJson,
}

impl Target {
    /// The path of the model over HTTP.
    pub(crate) fn path(&self) -> String {
        let part =
            |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        match &self.version {
            Some(version) => format!("/v2/models/{}/versions/{}", part(&self.model), part(version)),
            None => format!("/v2/models/{}", part(&self.model)),
        }
    }

    /// Host and port as HTTP has them.
    pub(crate) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            |why: &str| format!("{why}; a target is SCHEME://HOST:PORT/MODEL, SCHEME one of grpc, http, http+json");
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("no scheme"))?;
        let (protocol, default_port) = match scheme {
            "grpc" => (Protocol::Grpc, 8001),
            "http" => (Protocol::HttpBinary, 8000),
            "http+json" => (Protocol::HttpJson, 8000),
            other => return Err(wrong(&format!("unknown scheme '{other}'"))),
        };
        let (authority, path) = rest.split_once('/').ok_or_else(|| wrong("no model"))?;
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let authority: http::uri::Authority = authority.parse().map_err(|_| wrong("no host"))?;
        let model = percent_decode_str(path).decode_utf8().map_err(|_| wrong("the model's name is no UTF-8"))?;
        if model.is_empty() {
            return Err(wrong("no model"));
        }
        let mut target = Target {
            protocol,
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(default_port),
            model: model.into_owned(),
            version: None,
            rows: 1,
            weight: 1.0,
            text: text.to_owned(),
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let expected = |what: &str| format!("{key} is {what}, got '{value}'");
            match key {
                "version" => target.version = Some(value.to_owned()),
                "rows" => {
                    let rows = value.parse().ok().filter(|rows| *rows > 0);
                    target.rows = rows.ok_or_else(|| expected("a number of rows"))?;
                }
                "weight" => {
                    let weight = value.parse().ok().filter(|weight: &f64| weight.is_finite() && *weight > 0.0);
                    target.weight = weight.ok_or_else(|| expected("a positive number"))?;
                }
                _ => return Err(format!("unknown '{key}'; known are version, rows, weight")),
            }
        }
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_urls() {
        let target: Target = "http+json://[::1]:80/a%2Fb?version=2&rows=4&weight=0.5".parse().unwrap();
        assert_eq!((target.protocol, target.host.as_str(), target.port), (Protocol::HttpJson, "::1", 80));
        assert_eq!((target.model.as_str(), target.rows, target.weight), ("a/b", 4, 0.5));
        assert_eq!((target.path().as_str(), target.authority().as_str()), ("/v2/models/a%2Fb/versions/2", "[::1]:80"));
        let target: Target = "grpc://host/m".parse().unwrap();
        assert_eq!((target.protocol, target.port, target.path().as_str()), (Protocol::Grpc, 8001, "/v2/models/m"));
        for (text, says) in [
            ("host:8001/m", "no scheme"),
            ("ftp://host/m", "unknown scheme 'ftp'"),
            ("grpc://host", "no model"),
            ("grpc://host/", "no model"),
            ("grpc://host/m?rows=0", "rows is a number of rows, got '0'"),
            ("grpc://host/m?wieght=1", "unknown 'wieght'"),
        ] {
            assert!(text.parse::<Target>().unwrap_err().contains(says), "{text}");
        }
    }
}
