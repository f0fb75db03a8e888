//! The model repository: a folder, read as it is now.
//!
//! `DIR/<model>/<version>/model.onnx` (Triton's layout), `DIR/<model>/<version>.onnx`, or `DIR/<model>.onnx` (version 1); a
//! model's folder may hold a `config.toml`, also beside its file. What looks like a model and matches none of these is named by
//! [`Repository::unserved`]. What is read is judged by the registry.

mod cases;
mod fingerprint;
mod inspect;
mod layout;
mod manifest;
mod pbtxt;
mod recognise;
mod scan;
mod shape;

pub use fingerprint::Fingerprint;
pub use manifest::Verified;
pub use pbtxt::IgnoredConfig;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use crate::{
    config::ModelConfig,
    host::files::{ModelPath, Roots},
};
use shape::Shape;

/// A place that models are served from: a folder of models, one model's folder, or one model file.
#[derive(Debug, Clone)]
pub struct Repository {
    /// The path, as it was given.
    path: PathBuf,
    shape: Shape,
    /// File that a version's folder holds once it is complete, where there is such a rule.
    marker: Option<String>,
    /// Folders outside of the repository that links in it may lead to.
    links: Vec<PathBuf>,
}

/// What a repository holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    /// The models by name.
    pub models: BTreeMap<String, Model>,
    /// The disk that the folder lies on.
    pub device: u64,
    /// Files and folders that may hold models and match no layout.
    strays: BTreeSet<PathBuf>,
}

/// A model in the repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
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
    fn new(path: PathBuf, folder: Option<PathBuf>, roots: &Roots, before: Option<&Source>) -> Self {
        let path = ModelPath::new(path, roots.clone());
        let fingerprint = Fingerprint::take(&path, folder.as_deref(), before.map(|source| &source.fingerprint));
        Source { path, folder, fingerprint }
    }

    /// Whether the files are still as they were.
    pub fn is_current(&self) -> bool {
        self.fingerprint == Fingerprint::take(&self.path, self.folder.as_deref(), Some(&self.fingerprint))
    }
}

impl Model {
    /// Warning about a possible mistake that is no reason not to serve it, for people.
    pub fn warning(&self) -> Option<&str> {
        self.ignored.as_ref().map(IgnoredConfig::warning)
    }
}

const MODEL_FILE: &str = "model.onnx";
const CONFIG_FILE: &str = "config.toml";

/// The name of a file or folder, unless it is hidden or not text.
fn visible_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str().filter(|name| !name.starts_with('.'))
}

fn is_number(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}
