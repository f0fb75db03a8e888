//! Version 1 of the state's format, as older servers wrote it.

use serde::Deserialize;
use std::collections::BTreeMap;

use super::{Desired, ModelState, Record, Snapshot};
use crate::traffic::Traffic;

#[derive(Deserialize)]
pub(super) struct DesiredV1 {
    revision: u64,
    models: BTreeMap<String, ModelStateV1>,
}

#[derive(Deserialize)]
struct ModelStateV1 {
    revision: u64,
    traffic: Option<Traffic>,
    loaded: BTreeMap<u64, bool>,
    /// `None`: what the configuration says, which was not kept.
    undo: Vec<Option<Traffic>>,
    history: Vec<Record>,
}

impl From<DesiredV1> for Desired {
    fn from(old: DesiredV1) -> Self {
        let models = old.models.into_iter().map(|(name, state)| (name, state.into()));
        Desired { revision: old.revision, models: models.collect() }
    }
}

impl From<ModelStateV1> for ModelState {
    fn from(old: ModelStateV1) -> Self {
        let traffic_revision = match &old.traffic {
            Some(_) => old.history.iter().rfind(|record| record.after.is_some()).map_or(0, |record| record.revision),
            None => 0,
        };
        ModelState {
            revision: old.revision,
            traffic: old.traffic,
            traffic_revision,
            promoted: false,
            shadowed: None,
            loaded: old.loaded,
            undo: old.undo.into_iter().map(Snapshot::of_format_1).collect(),
            history: old.history,
        }
    }
}
