//! The desired state: a document of what admin calls have asked for.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::{
    change::Change,
    snapshot::{Origin, Snapshot},
};
use crate::traffic::Traffic;

/// Desired state of all models.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// Counts the changes.
    pub revision: u64,
    /// The models that have been changed, also those that are gone: they may return.
    pub models: BTreeMap<String, ModelState>,
}

/// Models that are gone and not forgotten, at most.
const MAX_GONE_MODELS: usize = 256;

impl Desired {
    /// Forgets models that are gone, but for those that were changed last. Gives their names.
    pub fn forget(&mut self, is_there: impl Fn(&str) -> bool) -> Vec<String> {
        let gone = self.models.iter().filter(|(name, _)| !is_there(name));
        let mut gone: Vec<(u64, String)> = gone.map(|(name, state)| (state.revision, name.clone())).collect();
        gone.sort_unstable();
        gone.truncate(gone.len().saturating_sub(MAX_GONE_MODELS));
        gone.iter().for_each(|(_, name)| drop(self.models.remove(name)));
        gone.into_iter().map(|(_, name)| name).collect()
    }
}

/// Desired state of one model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelState {
    /// The revision of its last change.
    pub revision: u64,
    /// Where its requests go; `None`: what its configuration says.
    pub traffic: Option<Traffic>,
    /// The revision of the change that made `traffic`; 0: there is none, or an older server made it.
    pub traffic_revision: u64,
    /// True if `traffic` is what a promotion made.
    pub promoted: bool,
    /// The configuration's traffic at the last change of `traffic`, which has held instead of it since.
    pub shadowed: Option<Traffic>,
    /// Versions that are loaded (true) or not (false), whatever else would decide that.
    pub loaded: BTreeMap<u64, bool>,
    /// Traffic before each change that a rollback can take back, oldest first.
    pub undo: Vec<Snapshot>,
    /// The last changes, oldest first.
    pub history: Vec<Record>,
}

/// A change that was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The state's revision with it.
    pub revision: u64,
    /// Time of the change, as RFC 3339 in UTC.
    pub time: String,
    /// The caller, by its own word; may be empty.
    pub actor: String,
    /// The reason; may be empty.
    pub reason: String,
    /// The change itself.
    pub change: Change,
    /// Traffic before and after, where the change is about traffic.
    pub before: Option<Traffic>,
    /// See `before`.
    pub after: Option<Traffic>,
    /// Authority that decided `before`; older servers did not keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}
