//! Checks of changes against the versions that a model has: pure.

use std::collections::{BTreeMap, BTreeSet};

use super::change::{Change, ModelFacts};
use crate::{
    error::{Code, Error, Result},
    router::DefaultRoute,
    traffic::{MAX_ALIASES, MAX_WEIGHTS, STABLE, Traffic, Weights, check_alias, count_aliases, unknown_alias},
};

/// Sum of all weights where they are points.
pub(super) const ALL_POINTS: f64 = 100.0;

/// Points below this are none: they are what floating point numbers can't express exactly.
const NO_POINTS: f64 = 1e-9;

/// Checks of the changes of one model.
pub(super) struct Judge<'a> {
    pub model: &'a str,
    pub facts: &'a ModelFacts,
}

impl Judge<'_> {
    /// The traffic after a change of it.
    pub(super) fn traffic(&self, before: &Traffic, change: &Change) -> Result<Traffic> {
        let mut after = before.clone();
        match change {
            Change::SetWeights(weights) => {
                self.within("weights", before.weights.count(), weights.count(), MAX_WEIGHTS)?;
                for (version, weight) in weights.iter() {
                    if weight > 0.0 {
                        self.ready(version, &format!("it can't get the weight {weight}"))?;
                    } else if !before.weights.names(version) {
                        self.exists(version)?;
                    }
                }
                after.weights = weights.clone();
            }
            Change::Shift { from, to, points } => {
                after.weights = self.shift(before, *from, *to, *points)?;
                self.within("weights", before.weights.count(), after.weights.count(), MAX_WEIGHTS)?;
            }
            Change::SetAlias { alias, version } => {
                check_alias(alias).map_err(Error::invalid)?;
                self.ready(*version, &format!("it can't be '{alias}'"))?;
                after.aliases.insert(alias.clone(), *version);
                let [before, after] = [before, &after].map(|traffic| count_aliases(&traffic.aliases));
                self.within("aliases beside `stable`", before, after, MAX_ALIASES)?;
            }
            Change::DropAlias(alias) => {
                after.aliases.remove(alias).ok_or_else(|| unknown_alias(self.model, alias, before))?;
            }
            Change::Promote(version) => {
                self.ready(*version, "it can't be promoted")?;
                after.weights =
                    Weights::new(BTreeMap::from([(*version, ALL_POINTS)])).map_err(|why| self.invalid(&why))?;
                after.aliases.insert(STABLE.into(), *version);
            }
            _ => {}
        }
        Ok(after)
    }

    fn shift(&self, before: &Traffic, from: u64, to: u64, points: f64) -> Result<Weights> {
        if from == to {
            return Err(self.invalid(&format!("points are shifted from one version to another, got {from} twice")));
        }
        // NaN too.
        if !(points > 0.0 && points <= ALL_POINTS) {
            return Err(self.invalid(&format!("points must be a number above 0 and at most 100, got {points}")));
        }
        let mut all = self.points(before)?;
        if !all.contains_key(&from) {
            self.exists(from)?;
        }
        self.ready(to, "no points can be shifted to it")?;
        let had = all.get(&from).copied().unwrap_or(0.0);
        if points > had + NO_POINTS {
            let points_text: Vec<_> = all.iter().map(|(version, points)| format!("{version}={points}")).collect();
            return Err(self.refused(format!(
                "{points} points can't be shifted from version {from}, which has {had} of 100; the versions have {}",
                points_text.join(" ")
            )));
        }
        let left = had - points;
        all.insert(from, if left < NO_POINTS { 0.0 } else { left });
        *all.entry(to).or_default() += had - all[&from];
        Weights::new(all).map_err(|why| self.invalid(&why))
    }

    /// The weights as parts of 100.
    fn points(&self, traffic: &Traffic) -> Result<BTreeMap<u64, f64>> {
        if traffic.weights.is_empty() {
            let none =
                || self.refused("it has no weights and no version that is ready: there is nothing to shift".into());
            return Ok(BTreeMap::from([(
                DefaultRoute::of(traffic, &self.all_ready()).only_version().ok_or_else(none)?,
                ALL_POINTS,
            )]));
        }
        let total: f64 = traffic.weights.iter().map(|(_, weight)| weight).sum();
        // Weights that add up already stay exactly so.
        if (total - ALL_POINTS).abs() < NO_POINTS {
            return Ok(traffic.weights.iter().collect());
        }
        Ok(traffic.weights.iter().map(|(version, weight)| (version, scaled(weight, total))).collect())
    }

    pub(super) fn all_ready(&self) -> BTreeSet<u64> {
        let ready = self.facts.versions.iter().filter(|(_, ready)| ready.is_ok());
        ready.map(|(version, _)| *version).collect()
    }

    /// Checks a count against its limit; a model that was beyond the limit before may stay so.
    fn within(&self, what: &str, before: usize, after: usize, most: usize) -> Result<()> {
        if after <= most.max(before) {
            return Ok(());
        }
        Err(self.invalid(&format!("a model may have {most} {what}, got {after}")))
    }

    fn exists(&self, version: u64) -> Result<&std::result::Result<(), String>> {
        self.facts.versions.get(&version).ok_or_else(|| {
            let existing: Vec<_> = self.facts.versions.keys().map(u64::to_string).collect();
            let existing = if existing.is_empty() { "none".into() } else { existing.join(", ") };
            let message = format!("model '{}' has no version {version}; its versions are: {existing}", self.model);
            Error::new(Code::NotFound, message)
        })
    }

    fn ready(&self, version: u64, refused: &str) -> Result<()> {
        let ready = self.exists(version)?.as_ref();
        ready.map(|_| ()).map_err(|why| self.refused(format!("version {version} is not ready, {refused}: {why}")))
    }

    /// The versions that can be loaded: that one, or all.
    pub(super) fn loadable(&self, version: Option<u64>) -> Result<Vec<u64>> {
        let Some(version) = version else {
            if self.facts.on_disk.is_empty() {
                return Err(self.refused("the repository holds no version of it".into()));
            }
            return Ok(self.facts.on_disk.iter().copied().collect());
        };
        self.exists(version)?;
        if !self.facts.on_disk.contains(&version) {
            return Err(self.refused(format!("version {version} can't be loaded: the repository does not hold it")));
        }
        Ok(vec![version])
    }

    /// The versions that can be unloaded: that one, or all.
    pub(super) fn unloadable(&self, version: Option<u64>) -> Result<Vec<u64>> {
        let Some(version) = version else { return Ok(self.facts.versions.keys().copied().collect()) };
        self.exists(version)?;
        Ok(vec![version])
    }

    /// Checks that the version, or any version, can be reloaded.
    pub(super) fn reloadable(&self, version: Option<u64>) -> Result<()> {
        let Some(version) = version else {
            if self.facts.loaded.is_disjoint(&self.facts.on_disk) {
                return Err(self.refused("none of its versions that the repository holds is loaded".into()));
            }
            return Ok(());
        };
        self.loadable(Some(version))?;
        if !self.facts.loaded.contains(&version) {
            return Err(self.refused(format!("version {version} can't be reloaded: it is not loaded")));
        }
        Ok(())
    }

    pub(super) fn refused(&self, why: String) -> Error {
        Error::new(Code::FailedPrecondition, format!("model '{}': {why}", self.model))
    }

    pub(super) fn invalid(&self, why: &str) -> Error {
        Error::invalid(format!("model '{}': {why}", self.model))
    }
}

/// The part of 100 that a weight is.
fn scaled(weight: f64, total: f64) -> f64 {
    let exact = weight * ALL_POINTS / total;
    if exact.is_finite() { exact } else { weight / total * ALL_POINTS }
}
