//! Models, versions and files that a scan found.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use super::{fingerprint::Fingerprint, pbtxt::IgnoredConfig};
use crate::{
    config::ModelConfig,
    host::files::{ModelPath, Roots},
};

/// Models that a repository holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    /// The models by name.
    pub models: BTreeMap<String, RepositoryModel>,
    /// The disk that the folder lies on.
    pub device: u64,
    /// Files and folders that may hold models and match no layout.
    pub(super) strays: BTreeSet<PathBuf>,
}

/// A model in the repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepositoryModel {
    /// Its settings; none were written: the defaults.
    pub config: ModelConfig,
    /// Its versions.
    pub versions: BTreeMap<u64, Source>,
    /// Versions whose folders lack the marker that says that they are complete: they don't count yet.
    pub incomplete: BTreeSet<u64>,
    /// Why the folder could not be read as a whole, for people. What it says of settings and versions is incomplete then.
    pub problem: Option<String>,
    /// Its `config.pbtxt`, which is not read.
    pub ignored: Option<IgnoredConfig>,
}

/// The files of a version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// The model file.
    pub path: ModelPath,
    /// The version's own folder, where it has one.
    pub folder: Option<PathBuf>,
    /// The state of that file, of the weights that it names, and of the files in the folder, which may belong to it.
    pub fingerprint: Fingerprint,
}

impl Source {
    /// Source of those files as they are now; `before` is their last state, if that is known.
    pub(super) fn new(path: PathBuf, folder: Option<PathBuf>, roots: &Roots, before: Option<&Source>) -> Self {
        let path = ModelPath::new(path, roots.clone());
        let fingerprint = Fingerprint::take(&path, folder.as_deref(), before.map(|source| &source.fingerprint));
        Source { path, folder, fingerprint }
    }

    /// True if the files are still as they were.
    pub fn is_current(&self) -> bool {
        self.fingerprint == Fingerprint::take(&self.path, self.folder.as_deref(), Some(&self.fingerprint))
    }
}

impl RepositoryModel {
    /// Warning about a possible mistake that is no reason not to serve it, for people.
    pub fn warning(&self) -> Option<&str> {
        self.ignored.as_ref().map(IgnoredConfig::warning)
    }
}
