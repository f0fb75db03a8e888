//! Judges a change and makes it: pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, Known, ModelState, Record, default_shares::taker};
use crate::{
    error::{Code, Error, Result},
    traffic::{MOST_ALIASES, MOST_WEIGHTS, STABLE, Traffic, Weights, check_alias, count_aliases, unknown_alias},
};

/// Changes that are kept of a model, steps that rollbacks can go back, and versions that are gone for which it is kept whether
/// they are loaded, at most.
pub(super) const MOST: usize = 100;

/// What all weights are together, where they are points.
pub(super) const ALL_POINTS: f64 = 100.0;

/// Points below this are none: what is left of them is what floating point numbers can't say exactly.
const NO_POINTS: f64 = 1e-9;

/// A change that can be made.
#[derive(Debug)]
pub struct Applied {
    /// The state with it.
    pub state: ModelState,
    /// Warnings for people.
    pub warnings: Vec<String>,
}

impl ModelState {
    /// Where requests go, if the configuration's traffic is this.
    pub fn traffic_or<'a>(&'a self, configured: &'a Traffic) -> &'a Traffic {
        self.traffic.as_ref().unwrap_or(configured)
    }

    /// The state after a change. `record` is what is kept of it, without `before`, `after` and `origin`.
    ///
    /// # Errors
    /// The change can't be made, and nothing is changed; the message names the model, what was expected and what came.
    pub fn apply(&self, model: &str, change: &Change, known: &Known, record: Record) -> Result<Applied> {
        let judge = Judge { model, known };
        let before = self.traffic_or(&known.configured);
        let now = self.snapshot(&judge, record.revision);
        let (mut next, mut warnings) = (self.clone(), Vec::new());
        let mut is_about_traffic = true;
        match change {
            Change::Load(version) => {
                next.loaded.extend(judge.loadable(*version)?.into_iter().map(|version| (version, true)));
                is_about_traffic = false;
            }
            Change::Unload(version) | Change::ForceUnload(version) => {
                let versions = judge.unloadable(*version)?;
                if matches!(change, Change::Unload(_)) {
                    judge.check_unused(before, &versions)?;
                }
                is_about_traffic = !judge.uses(before, &versions).is_empty();
                if is_about_traffic {
                    next.push_undo(now.clone());
                }
                next.loaded.extend(versions.into_iter().map(|version| (version, false)));
            }
            Change::Reload(version) => {
                judge.reloadable(*version)?;
                is_about_traffic = false;
            }
            Change::Rollback => warnings = next.roll_back(&judge)?,
            Change::RollbackTo(revision) => warnings = next.roll_back_to(&judge, *revision, &now)?,
            Change::Abort => warnings = next.abort(&judge)?,
            Change::ResetTraffic => next.reset(&judge, now.clone())?,
            Change::SetWeights(_)
            | Change::Shift { .. }
            | Change::SetAlias { .. }
            | Change::DropAlias(_)
            | Change::Promote(_) => {
                let after = Some(judge.traffic(before, change)?);
                // A call that is made twice is taken back once.
                if after != self.traffic {
                    next.push_undo(now.clone());
                    next.promoted = false;
                }
                next.promoted |= matches!(change, Change::Promote(_));
                next.traffic = after;
            }
        }
        let (mut record, origin) = (Record { change: change.clone(), ..record }, now.origin);
        if is_about_traffic {
            let after = next.traffic_or(&known.configured).clone();
            (record.before, record.after, record.origin) = (Some(before.clone()), Some(after), Some(origin));
            next.shadowed = next.traffic.is_some().then(|| known.configured.clone());
            if next.traffic != self.traffic {
                next.traffic_revision = if next.traffic.is_some() { record.revision } else { 0 };
            }
        }
        forget_lowest(&mut next.loaded, known);
        next.revision = record.revision;
        next.history.push(record);
        keep_last(&mut next.history);
        Ok(Applied { state: next, warnings })
    }
}

pub(super) fn keep_last<T>(list: &mut Vec<T>) {
    list.drain(..list.len().saturating_sub(MOST));
}

/// What calls have said of versions outlives these, since they may return. Of those that are gone the highest are kept.
fn forget_lowest(loaded: &mut BTreeMap<u64, bool>, known: &Known) {
    let is_gone = |version: &u64| !known.on_disk.contains(version) && !known.loaded.contains(version);
    let gone: Vec<u64> = loaded.keys().copied().filter(is_gone).collect();
    for version in &gone[..gone.len().saturating_sub(MOST)] {
        loaded.remove(version);
    }
}

/// Knows what can be asked of a model.
pub(super) struct Judge<'a> {
    pub model: &'a str,
    pub known: &'a Known,
}

impl Judge<'_> {
    /// The traffic after a change of it.
    fn traffic(&self, before: &Traffic, change: &Change) -> Result<Traffic> {
        let mut after = before.clone();
        match change {
            Change::SetWeights(weights) => {
                self.within("weights", before.weights.count(), weights.count(), MOST_WEIGHTS)?;
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
                self.within("weights", before.weights.count(), after.weights.count(), MOST_WEIGHTS)?;
            }
            Change::SetAlias { alias, version } => {
                check_alias(alias).map_err(Error::invalid)?;
                self.ready(*version, &format!("it can't be '{alias}'"))?;
                after.aliases.insert(alias.clone(), *version);
                let [before, after] = [before, &after].map(|traffic| count_aliases(&traffic.aliases));
                self.within("aliases beside `stable`", before, after, MOST_ALIASES)?;
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
            let told: Vec<_> = all.iter().map(|(version, points)| format!("{version}={points}")).collect();
            return Err(self.refused(format!(
                "{points} points can't be shifted from version {from}, which has {had} of 100; the versions have {}",
                told.join(" ")
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
            return Ok(BTreeMap::from([(taker(traffic, &self.all_ready()).ok_or_else(none)?, ALL_POINTS)]));
        }
        let total: f64 = traffic.weights.iter().map(|(_, weight)| weight).sum();
        // What is right already stays exactly so.
        if (total - ALL_POINTS).abs() < NO_POINTS {
            return Ok(traffic.weights.iter().collect());
        }
        Ok(traffic.weights.iter().map(|(version, weight)| (version, scaled(weight, total))).collect())
    }

    pub(super) fn all_ready(&self) -> BTreeSet<u64> {
        let ready = self.known.versions.iter().filter(|(_, ready)| ready.is_ok());
        ready.map(|(version, _)| *version).collect()
    }

    /// Whether there are not more than may be, or than there were.
    fn within(&self, what: &str, before: usize, after: usize, most: usize) -> Result<()> {
        if after <= most.max(before) {
            return Ok(());
        }
        Err(self.invalid(&format!("a model may have {most} {what}, got {after}")))
    }

    fn exists(&self, version: u64) -> Result<&std::result::Result<(), String>> {
        self.known.versions.get(&version).ok_or_else(|| {
            let known: Vec<_> = self.known.versions.keys().map(u64::to_string).collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            let message = format!("model '{}' has no version {version}; its versions are: {known}", self.model);
            Error::new(Code::NotFound, message)
        })
    }

    fn ready(&self, version: u64, refused: &str) -> Result<()> {
        let ready = self.exists(version)?.as_ref();
        ready.map(|_| ()).map_err(|why| self.refused(format!("version {version} is not ready, {refused}: {why}")))
    }

    /// The versions that can be loaded: that one, or all.
    fn loadable(&self, version: Option<u64>) -> Result<Vec<u64>> {
        let Some(version) = version else {
            if self.known.on_disk.is_empty() {
                return Err(self.refused("the repository holds no version of it".into()));
            }
            return Ok(self.known.on_disk.iter().copied().collect());
        };
        self.exists(version)?;
        if !self.known.on_disk.contains(&version) {
            return Err(self.refused(format!("version {version} can't be loaded: the repository does not hold it")));
        }
        Ok(vec![version])
    }

    /// The versions that can be unloaded: that one, or all.
    fn unloadable(&self, version: Option<u64>) -> Result<Vec<u64>> {
        let Some(version) = version else { return Ok(self.known.versions.keys().copied().collect()) };
        self.exists(version)?;
        Ok(vec![version])
    }

    /// Whether that version, or any, can be loaded anew.
    fn reloadable(&self, version: Option<u64>) -> Result<()> {
        let Some(version) = version else {
            if self.known.loaded.is_disjoint(&self.known.on_disk) {
                return Err(self.refused("none of its versions that the repository holds is loaded".into()));
            }
            return Ok(());
        };
        self.loadable(Some(version))?;
        if !self.known.loaded.contains(&version) {
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
