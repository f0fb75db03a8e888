//! Announced events: the state of versions and traffic of which watchers know.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use super::status::Standing;
use crate::{loader::VersionKey, traffic::Traffic};

/// The last events, against which the next table is compared.
#[derive(Debug, Default)]
pub(super) struct Announced {
    pub versions: BTreeMap<VersionKey, AnnouncedVersion>,
    /// Generations that drain beside another of their version.
    pub draining: BTreeSet<(VersionKey, u64)>,
    /// Traffic by model.
    pub traffic: BTreeMap<String, Traffic>,
}

/// The last event of a version.
#[derive(Debug, Clone)]
pub(super) struct AnnouncedVersion {
    pub standing: Standing,
    /// The time when its state or generation became this.
    pub since: SystemTime,
}
