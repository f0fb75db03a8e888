use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::Version;
use crate::error::{Code, Error, Result};

/// Every model and version that the server knows, and where requests go.
#[derive(Debug, Default)]
pub struct Table {
    /// The models by name.
    pub models: HashMap<String, ModelEntry>,
}

/// What the table says of a model.
#[derive(Debug, Default)]
pub struct ModelEntry {
    /// The versions that the repository holds.
    pub versions: BTreeMap<u64, VersionEntry>,
    /// The version that requests without one go to; `None`: the highest that is ready.
    pub stable: Option<u64>,
    /// Why the model's folder can't be read as it is, if so.
    pub problem: Option<String>,
}

/// What the table says of a version.
#[derive(Debug, Clone)]
pub enum VersionEntry {
    /// It is being loaded for the first time.
    Loading,
    /// It answers.
    Ready(Arc<Version>),
    /// It could not be loaded, for this reason.
    Failed(Arc<str>),
}

impl VersionEntry {
    /// The version, if it answers.
    pub fn ready(&self) -> Option<&Arc<Version>> {
        match self {
            VersionEntry::Ready(version) => Some(version),
            VersionEntry::Loading | VersionEntry::Failed(_) => None,
        }
    }
}

impl Table {
    /// The version that answers a request for `model` and, where the request names one, `version`.
    ///
    /// # Errors
    /// There is no such model or version (NOT_FOUND), or it is not ready (UNAVAILABLE, with the reason).
    pub fn pick(&self, model: &str, version: Option<u64>) -> Result<&Arc<Version>> {
        let entry = self.model(model)?;
        match version.or(entry.stable) {
            Some(number) => entry.version(model, number),
            None => entry.highest_ready(model),
        }
    }

    /// What the table says of a model.
    ///
    /// # Errors
    /// There is no such model.
    pub fn model(&self, model: &str) -> Result<&ModelEntry> {
        let unknown = || Error::new(Code::NotFound, format!("Request for unknown model: '{model}' is not found"));
        self.models.get(model).ok_or_else(unknown)
    }
}

impl ModelEntry {
    /// The versions that answer, lowest first.
    pub fn ready(&self) -> impl DoubleEndedIterator<Item = &Arc<Version>> {
        self.versions.values().filter_map(VersionEntry::ready)
    }

    fn version(&self, model: &str, number: u64) -> Result<&Arc<Version>> {
        let named = if self.stable == Some(number) { " (its stable version)" } else { "" };
        match self.versions.get(&number) {
            Some(VersionEntry::Ready(version)) => Ok(version),
            Some(VersionEntry::Loading) => {
                Err(unavailable(format!("model '{model}' version {number}{named} is not ready: it is being loaded")))
            }
            Some(VersionEntry::Failed(reason)) => {
                Err(unavailable(format!("model '{model}' version {number}{named} is not ready: {reason}")))
            }
            None => {
                let known: Vec<_> = self.versions.keys().map(u64::to_string).collect();
                let known = if known.is_empty() { "none".into() } else { known.join(", ") };
                let message = format!("model '{model}' has no version {number}{named}; its versions are: {known}");
                let code = if named.is_empty() { Code::NotFound } else { Code::Unavailable };
                Err(Error::new(code, message))
            }
        }
    }

    fn highest_ready(&self, model: &str) -> Result<&Arc<Version>> {
        self.ready().next_back().ok_or_else(|| {
            let mut reasons: Vec<_> = self.problem.iter().cloned().collect();
            reasons.extend(self.versions.iter().map(|(number, entry)| match entry {
                VersionEntry::Failed(reason) => format!("version {number}: {reason}"),
                VersionEntry::Loading | VersionEntry::Ready(_) => format!("version {number} is being loaded"),
            }));
            let reasons = if reasons.is_empty() { "its folder holds none".into() } else { reasons.join("; ") };
            unavailable(format!("model '{model}' has no version that is ready: {reasons}"))
        })
    }
}

fn unavailable(message: String) -> Error {
    Error::new(Code::Unavailable, message)
}
