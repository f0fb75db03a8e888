//! Application of a change to the desired state of a model: pure.

use std::collections::BTreeMap;

use super::{
    change::{Change, ModelFacts},
    desired::{ModelState, Record},
    history::{MAX_HISTORY, keep_last},
    judge::Judge,
};
use crate::{error::Result, traffic::Traffic};

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

    /// The state after a change. `record` is kept of it, without `before`, `after` and `origin`.
    ///
    /// # Errors
    /// The change can't be made, and nothing is changed; the message names the model, what was expected and what came.
    pub fn apply(&self, model: &str, change: &Change, facts: &ModelFacts, record: Record) -> Result<Applied> {
        let judge = Judge { model, facts };
        let before = self.traffic_or(&facts.configured);
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
            let after = next.traffic_or(&facts.configured).clone();
            (record.before, record.after, record.origin) = (Some(before.clone()), Some(after), Some(origin));
            next.shadowed = next.traffic.is_some().then(|| facts.configured.clone());
            if next.traffic != self.traffic {
                next.traffic_revision = if next.traffic.is_some() { record.revision } else { 0 };
            }
        }
        forget_lowest(&mut next.loaded, facts);
        next.revision = record.revision;
        next.history.push(record);
        keep_last(&mut next.history);
        Ok(Applied { state: next, warnings })
    }
}

/// Forgets wishes for versions without files, but for the highest: such versions may return.
fn forget_lowest(loaded: &mut BTreeMap<u64, bool>, facts: &ModelFacts) {
    let is_gone = |version: &u64| !facts.on_disk.contains(version) && !facts.loaded.contains(version);
    let gone: Vec<u64> = loaded.keys().copied().filter(is_gone).collect();
    for version in &gone[..gone.len().saturating_sub(MAX_HISTORY)] {
        loaded.remove(version);
    }
}
