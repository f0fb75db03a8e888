//! The model and version that the path of a request names.

use percent_encoding::percent_decode_str;
use serde::Deserialize;

use crate::{
    error::{Error, Result},
    traffic::Selector,
};

/// The model and version that a path names.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct PathTarget {
    model: String,
    /// A number or an alias; empty where the path names neither.
    #[serde(default)]
    version: String,
}

impl PathTarget {
    /// The target of an inference, if a path is one of an inference.
    pub(crate) fn of_inference(path: &str) -> Option<Result<Self>> {
        let target = path.strip_prefix("/v2/models/")?.strip_suffix("/infer")?;
        let (model, version) = match target.split_once('/') {
            None => (target, ""),
            Some((model, rest)) => (model, rest.strip_prefix("versions/").filter(|version| !version.is_empty())?),
        };
        if model.is_empty() || version.contains('/') {
            return None;
        }
        let decoded = |text| {
            let decoded = percent_decode_str(text).decode_utf8();
            decoded.map(String::from).map_err(|error| Error::invalid(format!("{path}: '{text}' is no UTF-8: {error}")))
        };
        Some(decoded(model).and_then(|model| Ok(PathTarget { model, version: decoded(version)? })))
    }

    /// The model's name.
    pub(crate) fn model(&self) -> &str {
        &self.model
    }

    pub(in crate::api) fn selector(&self) -> Result<Selector> {
        Selector::parse(&self.model, &self.version)
    }

    /// The model's name, and which version.
    pub(super) fn into_parts(self) -> Result<(String, Selector)> {
        let selector = self.selector()?;
        Ok((self.model, selector))
    }
}
