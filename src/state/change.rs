//! Changes of the desired state that admin calls can make, and the facts by which they are judged.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

use crate::traffic::{Traffic, Weights};

/// A change of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Load a version, also where nothing else would have it loaded; without one: every version that the repository holds.
    Load(Option<u64>),
    /// Unload a version, also where its files are there; without one: all. Refused where one gets requests.
    Unload(Option<u64>),
    /// The same where one gets requests.
    ForceUnload(Option<u64>),
    /// Reload a version from its files, and swap it in; without one: all that are loaded.
    Reload(Option<u64>),
    /// The weights are these from now on.
    SetWeights(Weights),
    /// Of 100 points, which are all the weights, move so many from one version to another.
    Shift {
        /// Loses points.
        from: u64,
        /// Gains points.
        to: u64,
        /// Points to move, above 0 and at most those of `from`.
        points: f64,
    },
    /// The alias names this version from now on.
    SetAlias {
        /// The alias.
        alias: String,
        /// The version.
        version: u64,
    },
    /// The alias names nothing any more.
    DropAlias(String),
    /// The version takes all requests, and is `stable`.
    Promote(u64),
    /// Traffic is what it was before the last change of it; again: before the one before.
    Rollback,
    /// Traffic is what it was at this revision.
    RollbackTo(u64),
    /// Traffic is what it was before the series of changes that goes on.
    Abort,
    /// Traffic is what the configuration says, from now on too.
    ResetTraffic,
}

/// Context of a change: its author, its reason, and the revision that it is based on.
#[derive(Debug, Clone, Default)]
pub struct ChangeContext {
    /// The change is refused where the model has been changed since this revision.
    pub expected_revision: Option<u64>,
    /// The caller.
    pub actor: String,
    /// The reason.
    pub reason: String,
}

/// Facts about a model by which a change of it is judged.
#[derive(Debug, Clone, Default)]
pub struct ModelFacts {
    /// Its configuration's traffic.
    pub configured: Traffic,
    /// Its versions in the repository or in memory; an error says why a version is not ready.
    pub versions: BTreeMap<u64, std::result::Result<(), String>>,
    /// Versions that the repository holds.
    pub on_disk: BTreeSet<u64>,
    /// Versions that are loaded, are being loaded, or failed to load.
    pub loaded: BTreeSet<u64>,
}
