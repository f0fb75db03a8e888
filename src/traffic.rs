//! Traffic of a model: the weights and aliases that divide its requests over versions, and the selector by which a request
//! names the version that it wants.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::error::{Code, Error, Result};

/// The alias of the version that requests without a version go to where there are no weights.
pub const STABLE: &str = "stable";

/// Versions that may have weights, and aliases, of a model at most: each change writes them all, and is kept with them for long.
pub const MAX_WEIGHTS: usize = 64;
/// See [`MAX_WEIGHTS`]; [`STABLE`] is none of these.
pub const MAX_ALIASES: usize = 64;

/// Characters of an alias at most.
const LONGEST_ALIAS: usize = 64;

/// The header, or metadata over gRPC, that gives a request's routing key.
pub const ROUTING_KEY_HEADER: &str = "onnxd-routing-key";

/// Bytes of a routing key at most.
pub const LONGEST_ROUTING_KEY: usize = 1024;

/// Where a model's requests go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// The parts of the requests without a version that versions get; none: all go to `stable`, or the highest that is ready.
    #[serde(default)]
    pub weights: Weights,
    /// Names that requests may give in place of a version.
    #[serde(default)]
    pub aliases: BTreeMap<String, u64>,
}

impl Traffic {
    /// The version that requests without one go to where there are no weights.
    pub fn stable(&self) -> Option<u64> {
        self.aliases.get(STABLE).copied()
    }

    /// True if weights or an alias decide where requests without a version go. Then a new version takes none by itself.
    pub fn is_decided(&self) -> bool {
        !self.weights.is_empty() || self.stable().is_some()
    }
}

/// Number of aliases that count towards [`MAX_ALIASES`].
pub fn count_aliases(aliases: &BTreeMap<String, u64>) -> usize {
    aliases.len() - usize::from(aliases.contains_key(STABLE))
}

/// The weights of versions: none at all, or numbers of which each is finite and not negative and the sum is neither zero nor
/// infinite. A version that is not named weighs nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<u64, f64>", into = "BTreeMap<u64, f64>")]
pub struct Weights(BTreeMap<u64, f64>);

impl Weights {
    /// # Errors
    /// For people: the weight that is none, or that all are zero.
    pub fn new(weights: BTreeMap<u64, f64>) -> Result<Self, String> {
        weights.iter().try_for_each(|(version, weight)| check_weight(*version, *weight))?;
        if weights.contains_key(&0) {
            return Err("a version is an integer of at least 1, got 0".into());
        }
        let total: f64 = weights.values().sum();
        if !total.is_finite() {
            return Err("the weights must have a finite sum".into());
        }
        if !weights.is_empty() && total == 0.0 {
            return Err("at least one weight must be greater than 0, got only zeros".into());
        }
        Ok(Weights(weights))
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of versions that are named.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The weight of a version.
    pub fn of(&self, version: u64) -> f64 {
        self.0.get(&version).copied().unwrap_or(0.0)
    }

    /// True if a version is named, even with the weight 0.
    pub fn names(&self, version: u64) -> bool {
        self.0.contains_key(&version)
    }

    /// Versions that are named with their weights, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = (u64, f64)> {
        self.0.iter().map(|(version, weight)| (*version, *weight))
    }
}

/// No weight is NaN.
impl Eq for Weights {}

impl TryFrom<BTreeMap<u64, f64>> for Weights {
    type Error = String;

    fn try_from(weights: BTreeMap<u64, f64>) -> Result<Self, String> {
        Weights::new(weights)
    }
}

impl From<Weights> for BTreeMap<u64, f64> {
    fn from(Weights(weights): Weights) -> Self {
        weights
    }
}

/// Checks that a number may be the weight of a version.
///
/// # Errors
/// For people: what a weight is.
pub fn check_weight(version: u64, weight: f64) -> Result<(), String> {
    if weight.is_finite() && weight >= 0.0 {
        return Ok(());
    }
    Err(format!("the weight of version {version} must be a finite number of at least 0, got {weight}"))
}

/// The version that a request wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Selector {
    /// The server chooses.
    #[default]
    Any,
    /// This one.
    Version(u64),
    /// The one of that name.
    Alias(String),
}

impl Selector {
    /// Parses the place for a version in a request for `model`: a version, an alias, or nothing.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(model: &str, text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Selector::Any);
        }
        match text.parse() {
            Ok(version) if version > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(Selector::Version(version))
            }
            _ if check_alias(text).is_ok() => Ok(Selector::Alias(text.to_owned())),
            _ => Err(Error::invalid(format!(
                "failed to get the version of model '{model}' from '{text}': a version is an integer > 0, or an alias"
            ))),
        }
    }
}

/// A version of a model, by its number or by one of its aliases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionName {
    /// Its number.
    Number(u64),
    /// An alias, which names the version that it points to.
    Alias(String),
}

impl std::str::FromStr for VersionName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match Selector::parse("", text) {
            Ok(Selector::Version(version)) => Ok(VersionName::Number(version)),
            Ok(Selector::Alias(alias)) => Ok(VersionName::Alias(alias)),
            Ok(Selector::Any) | Err(_) => Err("expected a version, an integer > 0, or an alias".into()),
        }
    }
}

impl std::fmt::Display for VersionName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            VersionName::Number(version) => write!(f, "{version}"),
            VersionName::Alias(alias) => f.write_str(alias),
        }
    }
}

/// Finds the versions that names stand for.
#[derive(Debug, Clone, Copy)]
pub struct Resolver<'a> {
    /// The model's name.
    pub model: &'a str,
    /// Its traffic, which has its aliases.
    pub traffic: &'a Traffic,
}

impl Resolver<'_> {
    /// The version that a name stands for now.
    ///
    /// # Errors
    /// The model has no such alias (NOT_FOUND).
    pub fn version(&self, name: &VersionName) -> Result<u64> {
        match name {
            VersionName::Number(version) => Ok(*version),
            VersionName::Alias(alias) => {
                let version = self.traffic.aliases.get(alias).copied();
                version.ok_or_else(|| unknown_alias(self.model, alias, self.traffic))
            }
        }
    }
}

/// Says that a model has no such alias, and which it has.
pub fn unknown_alias(model: &str, alias: &str, traffic: &Traffic) -> Error {
    let known: Vec<_> = traffic.aliases.keys().map(String::as_str).collect();
    let known = if known.is_empty() { "none".into() } else { known.join(", ") };
    Error::new(Code::NotFound, format!("model '{model}' has no alias '{alias}'; its aliases are: {known}"))
}

/// Checks that a text may be an alias.
///
/// # Errors
/// For people: what an alias is.
pub fn check_alias(text: &str) -> Result<(), String> {
    let is_word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if is_word && text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.len() <= LONGEST_ALIAS {
        return Ok(());
    }
    Err(format!(
        "an alias is a letter and up to {} letters, digits, '-', '_' and '.', got '{}'",
        LONGEST_ALIAS - 1,
        text.escape_debug()
    ))
}

/// Why a version answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The request names it.
    Pinned,
    /// The request names one of its aliases.
    Alias,
    /// The request's routing key falls to it.
    Sticky,
    /// It was drawn by weight.
    Weighted,
    /// Nothing says otherwise: it is `stable`, or the highest that is ready.
    Default,
}

impl Reason {
    /// Every reason, in the order of the declaration (so that `reason as usize` is its index here).
    pub const ALL: [Reason; 5] = [Reason::Pinned, Reason::Alias, Reason::Sticky, Reason::Weighted, Reason::Default];

    /// The word for it, in answers and in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Reason::Pinned => "pinned",
            Reason::Alias => "alias",
            Reason::Sticky => "sticky",
            Reason::Weighted => "weighted",
            Reason::Default => "default",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_reject_invalid_numbers() {
        let weights = |pairs: &[(u64, f64)]| Weights::new(pairs.iter().copied().collect());
        assert!(weights(&[]).unwrap().is_empty());
        let built = weights(&[(2, 95.0), (3, 5.0), (4, 0.0)]).unwrap();
        assert_eq!((built.of(2), built.of(4), built.of(9)), (95.0, 0.0, 0.0));
        for (wrong, expected) in [
            (&[(2, -1.0)][..], "the weight of version 2 must be a finite number of at least 0, got -1"),
            (&[(2, f64::NAN)], "the weight of version 2 must be a finite number of at least 0, got NaN"),
            (&[(1, 1.0), (3, f64::INFINITY)], "the weight of version 3 must be a finite number of at least 0, got inf"),
            (&[(1, f64::MAX), (3, f64::MAX)], "the weights must have a finite sum"),
            (&[(1, 0.0), (3, 0.0)], "at least one weight must be greater than 0, got only zeros"),
            (&[(0, 1.0)], "a version is an integer of at least 1, got 0"),
        ] {
            assert_eq!(weights(wrong), Err(expected.into()));
        }
    }

    #[test]
    fn selector_parses_versions_and_aliases() {
        let parse = |text| Selector::parse("m", text);
        assert_eq!(parse(""), Ok(Selector::Any));
        assert_eq!(parse("7"), Ok(Selector::Version(7)));
        assert_eq!(parse("canary"), Ok(Selector::Alias("canary".into())));
        assert_eq!(parse("v2.1-b_c"), Ok(Selector::Alias("v2.1-b_c".into())));
        for wrong in ["0", "-1", "+1", "1.5", "99999999999999999999", "a b", "ä", "_x", &"a".repeat(65)] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
