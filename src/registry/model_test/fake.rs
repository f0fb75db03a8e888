//! Fakes of generations, loading threads and folders.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Instant,
};

use crate::{
    config::{ModelConfig, Versions},
    host::files::{ModelPath, Roots},
    loader::{LoadRequest, VersionKey},
    registry::generation::Generation,
    repository::{Fingerprint, RepositoryModel, Source},
};

/// Bytes of a model file, and of its weights.
pub(super) const FILE_BYTES: u64 = 10;

/// The state of model files that are no models.
pub(super) const NO_MODEL: u8 = 3;

#[derive(Debug)]
pub(super) struct FakeGeneration {
    pub number: u64,
    pub memory: u64,
    pub is_held: Rc<Cell<bool>>,
    pub freed: Rc<RefCell<Vec<u64>>>,
}

impl Generation for FakeGeneration {
    fn number(&self) -> u64 {
        self.number
    }

    fn memory(&self) -> u64 {
        self.memory
    }

    fn is_idle(&self) -> bool {
        !self.is_held.get()
    }

    fn load_seconds(&self) -> (f64, f64) {
        (0.0, 0.0)
    }
}

impl Drop for FakeGeneration {
    fn drop(&mut self) {
        self.freed.borrow_mut().push(self.number);
    }
}

/// A thread that loads.
#[derive(Debug, Clone)]
pub(super) struct LoadThread {
    pub key: VersionKey,
    pub generation: u64,
    pub request: LoadRequest,
    pub began: Instant,
    pub is_given_up: bool,
}

/// A model in the repository.
#[derive(Debug, Clone, Default)]
pub(super) struct Folder {
    pub versions: BTreeMap<u64, (u8, u8)>,
    pub incomplete: BTreeSet<u64>,
    pub has_problem: bool,
    pub is_latest: bool,
}

pub(super) fn model(folder: &Folder, name: &str) -> RepositoryModel {
    let source = |version: u64, (file, weights): (u8, u8)| {
        let path = ModelPath::new(format!("{name}/{version}/model.onnx").into(), Roots::default());
        let fingerprint = Fingerprint::of_states(i128::from(file), i128::from(weights), FILE_BYTES);
        Source { path, folder: None, fingerprint }
    };
    let versions = folder.versions.iter().filter(|(version, _)| !folder.incomplete.contains(version));
    RepositoryModel {
        config: ModelConfig {
            versions: if folder.is_latest { Versions::Latest(1) } else { Versions::All },
            ..ModelConfig::default()
        },
        versions: versions.map(|(version, state)| (*version, source(*version, *state))).collect(),
        incomplete: folder.versions.keys().filter(|version| folder.incomplete.contains(version)).copied().collect(),
        problem: folder.has_problem.then(|| "unreadable".to_owned()),
        ..RepositoryModel::default()
    }
}

pub(super) fn is_no_model(request: &LoadRequest) -> bool {
    let no_model = |weights| Fingerprint::of_states(i128::from(NO_MODEL), weights, FILE_BYTES);
    (0..2).any(|weights| request.source.fingerprint == no_model(weights))
}
