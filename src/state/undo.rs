//! Ways back to earlier traffic: rollback, rollback to a revision, abort, reset.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    change::Change,
    default_shares::{named, shares},
    desired::{ModelState, Record},
    history::{MAX_HISTORY, keep_last},
    judge::{ALL_POINTS, Judge},
    snapshot::{Origin, Snapshot},
};
use crate::{
    error::Result,
    traffic::{Traffic, Weights},
};

impl Record {
    /// True if this change sent requests elsewhere, or could.
    fn moves_traffic(&self) -> bool {
        let is_takeover = self.origin.is_some_and(|origin| origin.configured) && self.change != Change::ResetTraffic;
        self.before.is_some()
            && (self.before != self.after || is_takeover || matches!(self.change, Change::ForceUnload(_)))
    }
}

impl ModelState {
    /// The snapshots that one call can go back to without naming a revision.
    pub fn next_snapshots(&self) -> impl Iterator<Item = &Snapshot> {
        let series = self.series().and_then(|index| self.undo.get(index));
        self.undo.last().into_iter().chain(series)
    }

    /// The snapshot before the series of changes that goes on, if one does.
    fn series(&self) -> Option<usize> {
        if self.traffic.is_none() || self.promoted {
            return None;
        }
        // Of more snapshots than are kept the first is not known.
        let first = (1..MAX_HISTORY).contains(&self.undo.len()).then_some(0);
        self.undo.iter().rposition(Snapshot::begins_series).or(first)
    }

    /// The traffic now, as the state before the change that is about to be made.
    pub(super) fn snapshot(&self, judge: &Judge<'_>, revision: u64) -> Snapshot {
        let traffic = self.traffic_or(&judge.facts.configured);
        let highest = if traffic.is_decided() { None } else { judge.all_ready().last().copied() };
        let origin = Origin { configured: self.traffic.is_none(), promoted: self.promoted, highest };
        Snapshot { revision, traffic: Some(traffic.clone()), origin }
    }

    /// Keeps a snapshot for rollbacks.
    pub(super) fn push_undo(&mut self, snapshot: Snapshot) {
        self.undo.push(snapshot);
        keep_last(&mut self.undo);
    }

    /// Takes back the last change of traffic.
    pub(super) fn roll_back(&mut self, judge: &Judge<'_>) -> Result<Vec<String>> {
        let nothing = || {
            judge.refused(format!(
                "there is no change of its traffic to take back; `onnxd history {0}` shows its changes, and `onnxd rollback {0} \
                 --to REVISION` goes back to one of them",
                judge.model
            ))
        };
        let snapshot = self.undo.pop().ok_or_else(nothing)?;
        self.return_to(judge, &snapshot)
    }

    /// Goes back to the traffic at a revision: by rollbacks where these lead there, else by a change that a rollback takes back.
    pub(super) fn roll_back_to(&mut self, judge: &Judge<'_>, wanted: u64, now: &Snapshot) -> Result<Vec<String>> {
        if wanted >= now.revision {
            let last = now.revision - 1;
            return Err(judge.refused(format!("there is no revision {wanted} to go back to: the state is at {last}")));
        }
        if let Some(oldest) = self.history.first().filter(|_| self.history.len() >= MAX_HISTORY)
            && wanted + 1 < oldest.revision
        {
            let facts = oldest.revision - 1;
            return Err(judge.refused(format!(
                "what its traffic was at revision {wanted} is not kept: its history of {MAX_HISTORY} changes goes back to \
                 revision {facts}; the audit log in the state folder has all, and `onnxd traffic set {}` sets weights",
                judge.model
            )));
        }
        let next = self.history.iter().find(|record| record.revision > wanted && record.moves_traffic());
        let Some(next) = next else { return Ok(Vec::new()) };
        if let Some(index) = self.undo.iter().position(|snapshot| snapshot.revision == next.revision) {
            return self.cut_undo(judge, index);
        }
        // Older servers did not keep what had decided: what the configuration still says is its own.
        let origin = next.origin.unwrap_or(Origin { configured: true, ..Origin::default() });
        let snapshot = Snapshot { revision: next.revision, traffic: next.before.clone(), origin };
        let before = self.traffic.clone();
        let warnings = self.return_to(judge, &snapshot)?;
        if self.traffic != before {
            self.push_undo(now.clone());
        }
        Ok(warnings)
    }

    /// Takes back every change of the series that goes on.
    pub(super) fn abort(&mut self, judge: &Judge<'_>) -> Result<Vec<String>> {
        let Some(index) = self.series() else {
            let why = match &self.traffic {
                None => "its traffic is what the configuration says",
                Some(_) if self.promoted => "a promotion has ended the last one",
                Some(_) => "its beginning is not facts",
            };
            return Err(judge.refused(format!(
                "there is no series of changes to abort: {why}; `onnxd rollback {0}` takes back the last change, and `onnxd \
                 rollback {0} --to REVISION` goes back to a revision of `onnxd history {0}`",
                judge.model
            )));
        };
        self.cut_undo(judge, index)
    }

    /// Gives traffic back to the configuration.
    pub(super) fn reset(&mut self, judge: &Judge<'_>, now: Snapshot) -> Result<()> {
        let configured = &judge.facts.configured;
        let again = self.load_again(judge, &named(configured));
        judge.reaches_someone("the configuration's traffic", configured, self.traffic_or(configured), &again)?;
        if self.traffic.take().is_some() {
            self.push_undo(now);
        }
        self.promoted = false;
        Ok(())
    }

    /// Restores a snapshot, and forgets those after it.
    fn cut_undo(&mut self, judge: &Judge<'_>, index: usize) -> Result<Vec<String>> {
        let mut snapshots = self.undo.split_off(index).into_iter();
        let Some(snapshot) = snapshots.next() else { return Ok(Vec::new()) };
        self.return_to(judge, &snapshot)
    }

    /// Restores the traffic of a snapshot. Gives warnings for people.
    fn return_to(&mut self, judge: &Judge<'_>, snapshot: &Snapshot) -> Result<Vec<String>> {
        let (model, configured) = (judge.model, &judge.facts.configured);
        let mut warnings = Vec::new();
        let mut traffic = snapshot.traffic.clone().unwrap_or_else(|| configured.clone());
        let again = self.load_again(judge, &snapshot.needs(configured));
        let highest = judge.all_ready().last().copied();
        // A version that is higher was not there, and is not to take over by this.
        if let Some(version) = snapshot.origin.highest
            && highest != Some(version)
            && (highest > Some(version) || !again.contains(&version))
        {
            let weights = BTreeMap::from([(version, ALL_POINTS)]);
            traffic.weights = Weights::new(weights).map_err(|why| judge.invalid(&why))?;
            warnings.push(format!(
                "the highest version of '{model}' that was ready took its requests, which was version {version}: it has the \
                 weight {ALL_POINTS} now, so that no other takes over; `onnxd traffic reset {model}` ends that"
            ));
        }
        judge.reaches_someone("its traffic before", &traffic, self.traffic_or(configured), &again)?;
        let was_configured = snapshot.traffic.is_none() || snapshot.origin.configured;
        if was_configured && traffic == *configured {
            (self.traffic, self.promoted) = (None, false);
            return Ok(warnings);
        }
        if was_configured && warnings.is_empty() {
            warnings.push(format!(
                "config.toml of '{model}' has changed: its traffic is what it was before ({traffic}), not what config.toml says \
                 now ({configured}); `onnxd traffic reset {model}` makes config.toml hold"
            ));
        }
        (self.traffic, self.promoted) = (Some(traffic), snapshot.origin.promoted);
        Ok(warnings)
    }

    /// Marks versions to be loaded again that a call has unloaded. Gives their numbers.
    fn load_again(&mut self, judge: &Judge<'_>, needed: &BTreeSet<u64>) -> BTreeSet<u64> {
        let is_unloaded =
            |version: &&u64| self.loaded.get(version) == Some(&false) && judge.facts.on_disk.contains(version);
        let again: BTreeSet<u64> = needed.iter().filter(is_unloaded).copied().collect();
        self.loaded.extend(again.iter().map(|version| (*version, true)));
        again
    }
}

impl Judge<'_> {
    /// Refuses to unload versions that get requests.
    pub(super) fn check_unused(&self, traffic: &Traffic, versions: &[u64]) -> Result<()> {
        let used = self.uses(traffic, versions);
        if used.is_empty() {
            return Ok(());
        }
        let is_all = versions.iter().filter(|version| self.facts.loaded.contains(version)).count() > 1;
        let elsewhere = if is_all {
            "name the versions to unload".to_owned()
        } else {
            format!(
                "move its requests first (`onnxd promote {0} VERSION`, `onnxd traffic set {0} VERSION=WEIGHT`, `onnxd \
                     alias set {0} ALIAS VERSION`)",
                self.model
            )
        };
        Err(self.refused(format!(
            "{}: {elsewhere}, or unload all the same with --force (\"force\": true in a call of the admin API)",
            used.join("; ")
        )))
    }

    /// The uses of versions that are loaded, for people: shares of the requests, and aliases.
    pub(super) fn uses(&self, traffic: &Traffic, versions: &[u64]) -> Vec<String> {
        let shares = shares(traffic, &self.all_ready());
        let mut uses = Vec::new();
        for version in versions.iter().filter(|version| self.facts.loaded.contains(version)) {
            let mut described = Vec::new();
            if let Some(share) = shares.get(version).filter(|share| **share > 0.0) {
                let percent = format!("{:.3}", share * 100.0);
                let percent = percent.trim_end_matches('0').trim_end_matches('.');
                described.push(format!("gets {percent} % of the requests that name no version"));
            }
            let aliases = traffic.aliases.iter().filter(|(_, named)| *named == version);
            let aliases: Vec<String> = aliases.map(|(alias, _)| format!("'{alias}'")).collect();
            if !aliases.is_empty() {
                described.push(format!("is what the alias {} points to", aliases.join(", ")));
            }
            if !described.is_empty() {
                uses.push(format!("version {version} {}", described.join(" and ")));
            }
        }
        uses
    }

    /// Refuses traffic `after` that would reach no version that is ready. Where the traffic `before` reaches none either, one that
    /// is loaded again will do.
    fn reaches_someone(&self, what: &str, after: &Traffic, before: &Traffic, again: &BTreeSet<u64>) -> Result<()> {
        let ready = self.all_ready();
        let reaches = |traffic: &Traffic| !shares(traffic, &ready).is_empty();
        if reaches(after) || !reaches(before) && !again.is_empty() {
            return Ok(());
        }
        let named: Vec<u64> = after.weights.iter().map(|(version, _)| version).chain(after.stable()).collect();
        let described: Vec<String> = named.iter().map(|version| self.describe(*version)).collect();
        let described = if described.is_empty() { "no version is ready".into() } else { described.join("; ") };
        Err(self.refused(format!(
            "{what} would reach no version that is ready: {described}; load one of these first (`onnxd load {0} VERSION`), or choose \
             another (`onnxd traffic set {0} VERSION=WEIGHT`)",
            self.model
        )))
    }

    /// A version with its state, for people.
    fn describe(&self, version: u64) -> String {
        match self.facts.versions.get(&version) {
            Some(Ok(())) => format!("version {version} is ready"),
            Some(Err(why)) => format!("version {version}: {why}"),
            None => format!("there is no version {version}"),
        }
    }
}
