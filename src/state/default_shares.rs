//! Each version's share of the requests that name none: pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::{router::Split, traffic::Traffic};

/// The one version that takes all of them, ready or not, where there are no weights.
pub(super) fn taker(traffic: &Traffic, ready: &BTreeSet<u64>) -> Option<u64> {
    if !traffic.weights.is_empty() {
        return None;
    }
    traffic.stable().or_else(|| ready.last().copied())
}

/// The part that each version gets, from 0 to 1, of those that get any.
pub fn shares(traffic: &Traffic, ready: &BTreeSet<u64>) -> BTreeMap<u64, f64> {
    if let Some(version) = taker(traffic, ready) {
        return ready.contains(&version).then_some((version, 1.0)).into_iter().collect();
    }
    let Some(split) = Split::new(&traffic.weights, |version| ready.contains(&version)) else { return BTreeMap::new() };
    let counted = ready.iter().filter(|version| traffic.weights.of(**version) > 0.0);
    counted.map(|version| (*version, split.share(*version))).collect()
}

/// The versions that the traffic names: with a weight above zero, or by an alias.
pub fn named(traffic: &Traffic) -> BTreeSet<u64> {
    let weighed = traffic.weights.iter().filter(|(_, weight)| *weight > 0.0).map(|(version, _)| version);
    weighed.chain(traffic.aliases.values().copied()).collect()
}
