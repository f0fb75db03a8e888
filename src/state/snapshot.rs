//! Snapshots of traffic, one before each change.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

use super::default_shares::named;
use crate::traffic::Traffic;

/// Traffic before a change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The revision of that change; 0: an older server did not keep it.
    pub revision: u64,
    /// Traffic; `None`: an older server only kept that the configuration decided it.
    pub traffic: Option<Traffic>,
    /// Authority that decided it.
    pub origin: Origin,
}

/// Authority that decided the traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// True if the configuration has, or nothing has.
    pub configured: bool,
    /// True if a promotion has.
    pub promoted: bool,
    /// The highest version that was ready, where it took the requests since nothing said otherwise.
    pub highest: Option<u64>,
}

impl Snapshot {
    /// A snapshot as format 1 has it.
    pub(super) fn of_format_1(traffic: Option<Traffic>) -> Self {
        let configured = traffic.is_none();
        Snapshot { revision: 0, traffic, origin: Origin { configured, ..Origin::default() } }
    }

    /// The versions that a way back to it needs, where the configuration says `configured`.
    pub fn needs(&self, configured: &Traffic) -> BTreeSet<u64> {
        let mut versions = named(self.traffic.as_ref().unwrap_or(configured));
        versions.extend(self.origin.highest);
        versions
    }

    /// True if a series of changes may begin with it: all requests went to one version, or had been sent where they were to stay.
    pub(super) fn begins_series(&self) -> bool {
        let goes_to_one = |traffic: &Traffic| traffic.weights.iter().filter(|(_, weight)| *weight > 0.0).count() <= 1;
        self.origin.configured || self.origin.promoted || self.traffic.as_ref().is_none_or(goes_to_one)
    }
}
