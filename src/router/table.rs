//! The routing table: every model and version, and where requests go.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Display,
    sync::Arc,
};

use super::{default_route::DefaultRoute, readiness::Readiness, ticket::Ticket, version::Version};
use crate::{
    error::{Code, Error, Result},
    traffic::{Reason, Selector, Traffic},
};

/// Every model and version that the server knows, and where requests go.
#[derive(Debug, Default)]
pub struct Table {
    /// The models by name.
    pub models: HashMap<String, ModelEntry>,
    /// Facts that decide whether the server is ready.
    pub readiness: Readiness,
}

/// A model of the table. Facts that requests need are computed when it is built.
#[derive(Debug, Default)]
pub struct ModelEntry {
    versions: BTreeMap<u64, VersionEntry>,
    routing: Routing,
    problem: Option<String>,
    default_route: DefaultRoute,
}

/// Rules by which a model's requests find their version.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Routing {
    /// The weights and aliases.
    pub traffic: Traffic,
    /// Headers that the routing key is looked for in, where a request does not give it under its own name.
    pub key_headers: Vec<String>,
}

/// A version of the table.
#[derive(Debug, Clone)]
pub enum VersionEntry {
    /// It is being loaded for the first time.
    Loading,
    /// It answers.
    Ready(Arc<Version>),
    /// It answers what it has, and takes no more.
    Retiring,
    /// It could not be loaded, for this reason.
    Failed(Arc<str>),
}

impl VersionEntry {
    /// The version, if it answers.
    pub fn ready(&self) -> Option<&Arc<Version>> {
        match self {
            VersionEntry::Ready(version) => Some(version),
            VersionEntry::Loading | VersionEntry::Retiring | VersionEntry::Failed(_) => None,
        }
    }

    /// Its state, for people: "is ready".
    fn state(&self) -> String {
        match self {
            VersionEntry::Ready(_) => "is ready".into(),
            VersionEntry::Loading => "is being loaded".into(),
            VersionEntry::Retiring => "is being retired".into(),
            VersionEntry::Failed(reason) => format!("is not ready: {reason}"),
        }
    }
}

impl Table {
    /// The version that answers a request for `model`, and why. Where a request names none and several have weight, the ticket
    /// decides.
    ///
    /// # Errors
    /// There is no such model, version or alias (NOT_FOUND), what there is is not ready (UNAVAILABLE, with the reason), or the
    /// routing key is too long.
    pub fn pick(&self, model: &str, selector: &Selector, ticket: &Ticket<'_, '_>) -> Result<(&Arc<Version>, Reason)> {
        let entry = self.model(model)?;
        match selector {
            Selector::Any => entry.unnamed(model, ticket),
            Selector::Version(version) => entry.pinned(model, *version),
            Selector::Alias(alias) => entry.aliased(model, alias),
        }
    }

    /// The version whose metadata and readiness are shown. Where a request for them names none and weights decide, it is
    /// `stable` if that is ready, else the one with the greatest weight of those that are.
    ///
    /// # Errors
    /// No version would answer an inference either.
    pub fn shown(&self, model: &str, selector: &Selector) -> Result<&Arc<Version>> {
        let entry = self.model(model)?;
        match (selector, &entry.default_route) {
            (Selector::Any, DefaultRoute::Split(split)) => {
                let stable = entry.routing.traffic.stable().and_then(|stable| entry.versions.get(&stable)?.ready());
                stable.map_or_else(|| entry.version(model, split.greatest(), &""), Ok)
            }
            _ => self.pick(model, selector, &Ticket::default()).map(|(version, _)| version),
        }
    }

    /// The entry of a model.
    ///
    /// # Errors
    /// There is no such model.
    pub fn model(&self, model: &str) -> Result<&ModelEntry> {
        let unknown = || Error::new(Code::NotFound, format!("Request for unknown model: '{model}' is not found"));
        self.models.get(model).ok_or_else(unknown)
    }
}

impl ModelEntry {
    /// A model with the versions that the server knows of it. `problem` says why its folder can't be read as it is, if so.
    pub fn new(versions: BTreeMap<u64, VersionEntry>, routing: Routing, problem: Option<String>) -> Self {
        let ready = versions.iter().filter(|(_, entry)| entry.ready().is_some()).map(|(version, _)| *version).collect();
        let default_route = DefaultRoute::of(&routing.traffic, &ready);
        ModelEntry { versions, routing, problem, default_route }
    }

    /// The versions, lowest first.
    pub fn versions(&self) -> &BTreeMap<u64, VersionEntry> {
        &self.versions
    }

    /// The versions that answer, lowest first.
    pub fn ready(&self) -> impl DoubleEndedIterator<Item = &Arc<Version>> {
        self.versions.values().filter_map(VersionEntry::ready)
    }

    /// The part of the requests without a version that a version gets now, from 0 to 1.
    pub fn share(&self, version: u64) -> f64 {
        let is_ready = self.versions.get(&version).and_then(VersionEntry::ready).is_some();
        if is_ready { self.default_route.share(version) } else { 0.0 }
    }

    /// True if the ticket decides where a request without a version goes.
    pub(super) fn is_divided(&self) -> bool {
        matches!(&self.default_route, DefaultRoute::Split(split) if split.only().is_none())
    }

    /// The version of a request that names none.
    fn unnamed(&self, model: &str, ticket: &Ticket<'_, '_>) -> Result<(&Arc<Version>, Reason)> {
        let (version, name, reason) = match &self.default_route {
            DefaultRoute::None => return Err(self.nothing_ready(model)),
            DefaultRoute::Highest(version) => (*version, "", Reason::Default),
            DefaultRoute::Stable(version) => (*version, " (its stable version)", Reason::Default),
            DefaultRoute::Split(split) => match split.only() {
                Some(only) => (only, "", Reason::Weighted),
                None => match ticket.routing_key(model, &self.routing.key_headers)? {
                    Some(key) => (split.sticky(model, key), "", Reason::Sticky),
                    None => (split.random((ticket.random)()), "", Reason::Weighted),
                },
            },
        };
        Ok((self.version(model, version, &name)?, reason))
    }

    fn pinned(&self, model: &str, version: u64) -> Result<(&Arc<Version>, Reason)> {
        if !self.versions.contains_key(&version) {
            let known = listed(self.versions.keys());
            let message = format!("model '{model}' has no version {version}; its versions are: {known}");
            return Err(Error::new(Code::NotFound, message));
        }
        Ok((self.version(model, version, &"")?, Reason::Pinned))
    }

    fn aliased(&self, model: &str, alias: &str) -> Result<(&Arc<Version>, Reason)> {
        let aliases = &self.routing.traffic.aliases;
        let Some(version) = aliases.get(alias) else {
            let known = listed(aliases.keys());
            let message = format!("model '{model}' has no alias '{alias}'; its aliases are: {known}");
            return Err(Error::new(Code::NotFound, message));
        };
        Ok((self.version(model, *version, &format_args!(" (its alias '{alias}')"))?, Reason::Alias))
    }

    /// The version of a number; errors name what led to it.
    fn version(&self, model: &str, number: u64, name: &dyn Display) -> Result<&Arc<Version>> {
        let not_ready =
            |why: &str| Err(unavailable(format!("model '{model}' version {number}{name} is not ready: {why}")));
        match self.versions.get(&number) {
            Some(VersionEntry::Ready(version)) => Ok(version),
            Some(VersionEntry::Loading) => not_ready("it is being loaded"),
            Some(VersionEntry::Retiring) => not_ready("it is being retired"),
            Some(VersionEntry::Failed(reason)) => not_ready(reason),
            None => {
                let known = listed(self.versions.keys());
                Err(unavailable(format!("model '{model}' has no version {number}{name}; its versions are: {known}")))
            }
        }
    }

    fn nothing_ready(&self, model: &str) -> Error {
        let weights = &self.routing.traffic.weights;
        let what = if weights.is_empty() { "" } else { " and has weight" };
        let mut reasons: Vec<_> = self.problem.iter().cloned().collect();
        reasons.extend(self.versions.iter().map(|(version, entry)| match entry {
            _ if !weights.is_empty() => {
                format!("version {version} (weight {}) {}", weights.of(*version), entry.state())
            }
            VersionEntry::Failed(reason) => format!("version {version}: {reason}"),
            _ => format!("version {version} {}", entry.state()),
        }));
        let missing = weights.iter().filter(|(version, _)| !self.versions.contains_key(version));
        reasons.extend(missing.map(|(version, weight)| format!("there is no version {version} (weight {weight})")));
        let reasons = if reasons.is_empty() { "its folder holds none".into() } else { reasons.join("; ") };
        unavailable(format!("model '{model}' has no version that is ready{what}: {reasons}"))
    }
}

/// For people: "1, 2", or "none".
fn listed(words: impl Iterator<Item = impl Display>) -> String {
    let words: Vec<_> = words.map(|word| word.to_string()).collect();
    if words.is_empty() { "none".into() } else { words.join(", ") }
}

fn unavailable(message: String) -> Error {
    Error::new(Code::Unavailable, message)
}

#[cfg(test)]
mod tests;
