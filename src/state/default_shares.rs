//! Each version's share of the requests that name none: pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::{router::DefaultRoute, traffic::Traffic};

/// The part that each version gets, from 0 to 1, of those that get any.
pub fn shares(traffic: &Traffic, ready: &BTreeSet<u64>) -> BTreeMap<u64, f64> {
    let route = DefaultRoute::of(traffic, ready);
    let gets_any = |version: &u64| traffic.weights.of(*version) > 0.0 || route.only_version() == Some(*version);
    ready.iter().filter(|version| gets_any(version)).map(|version| (*version, route.share(*version))).collect()
}

/// The versions that the traffic names: with a weight above zero, or by an alias.
pub fn named(traffic: &Traffic) -> BTreeSet<u64> {
    let weighed = traffic.weights.iter().filter(|(_, weight)| *weight > 0.0).map(|(version, _)| version);
    weighed.chain(traffic.aliases.values().copied()).collect()
}
