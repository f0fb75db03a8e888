//! Default route: the versions that answer requests which name none. Pure.

use std::collections::BTreeSet;

use super::split::Split;
use crate::traffic::Traffic;

/// Route of the requests that name no version.
#[derive(Debug, Default)]
pub enum DefaultRoute {
    /// Nowhere: no version is ready, or none of those that are has weight.
    #[default]
    None,
    /// To the highest version that is ready.
    Highest(u64),
    /// To the version that `stable` names, ready or not.
    Stable(u64),
    /// Over the versions that are ready and have weight.
    Split(Split),
}

impl DefaultRoute {
    /// The route by weights, else to `stable`, else to the highest of the versions that are ready.
    pub fn of(traffic: &Traffic, ready: &BTreeSet<u64>) -> Self {
        if !traffic.weights.is_empty() {
            let split = Split::new(&traffic.weights, |version| ready.contains(&version));
            return split.map(DefaultRoute::Split).unwrap_or_default();
        }
        let highest = || ready.last().copied().map(DefaultRoute::Highest);
        traffic.stable().map(DefaultRoute::Stable).or_else(highest).unwrap_or_default()
    }

    /// The one version that takes every request, ready or not, where there are no weights.
    pub fn only_version(&self) -> Option<u64> {
        match self {
            DefaultRoute::Highest(version) | DefaultRoute::Stable(version) => Some(*version),
            DefaultRoute::None | DefaultRoute::Split(_) => None,
        }
    }

    /// Share of the requests, from 0 to 1, that a version gets which is ready.
    pub fn share(&self, version: u64) -> f64 {
        match self {
            DefaultRoute::Split(split) => split.share(version),
            DefaultRoute::Highest(only) | DefaultRoute::Stable(only) if *only == version => 1.0,
            DefaultRoute::None | DefaultRoute::Highest(_) | DefaultRoute::Stable(_) => 0.0,
        }
    }
}
