//! The model repository: a folder, read as it is now.
//!
//! `DIR/<model>/<version>/model.onnx` (Triton's layout), `DIR/<model>/<version>.onnx`, or `DIR/<model>.onnx` (version 1); a
//! model's folder may hold a `config.toml`. Everything else is ignored. What is read is judged by the registry.

mod cases;
mod find;
mod fingerprint;
mod inspect;
mod manifest;
mod recognise;

pub use find::find;
pub use fingerprint::Fingerprint;
pub use manifest::Verified;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{
    config::{ModelConfig, document},
    files::{ModelPath, Roots},
};

/// What a repository holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    /// The models by name.
    pub models: BTreeMap<String, Model>,
    /// The disk that the folder lies on.
    pub device: u64,
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
}

/// The files of a version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// The model file.
    pub path: ModelPath,
    /// The version's own folder, where it has one.
    pub folder: Option<PathBuf>,
    /// The state of that file and of those in the folder, which may belong to it.
    pub fingerprint: Fingerprint,
}

impl Source {
    /// Those files as they are now.
    fn new(path: PathBuf, folder: Option<PathBuf>, roots: &Roots) -> Self {
        let path = ModelPath::new(path, roots.clone());
        let fingerprint = Fingerprint::take(&path, folder.as_deref());
        Source { path, folder, fingerprint }
    }

    /// Whether the files are still as they were.
    pub fn is_current(&self) -> bool {
        self.fingerprint == Fingerprint::take(&self.path, self.folder.as_deref())
    }
}

const MODEL_FILE: &str = "model.onnx";
const CONFIG_FILE: &str = "config.toml";

/// Reads a repository. Where there is a `marker`, a version with a folder counts only when that holds a file of this name. Links
/// may lead about in the repository, and to the folders in `links`.
///
/// # Errors
/// The folder itself can't be read; the message names it. What is wrong inside is told per model.
pub fn scan(folder: &Path, marker: Option<&str>, links: &[PathBuf]) -> Result<Scan, String> {
    let failed = |error: io::Error| format!("the model repository {} can't be read: {error}", folder.display());
    let mut scan = Scan { device: fs::metadata(folder).map_err(failed)?.dev(), ..Scan::default() };
    let roots = Roots::new(folder, links);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let Some(name) = visible_name(&path) else {
            if let Some((name, model)) = unnamed(&path, marker, &roots) {
                scan.add(name, model);
            }
            continue;
        };
        let is_folder = is_folder(&entry);
        if *is_folder.as_ref().unwrap_or(&false) {
            if let Some(model) = scan_model(&path, marker, &roots) {
                scan.add(name.to_owned(), model);
            }
        } else if let Some(model) = name.strip_suffix(".onnx").filter(|model| !model.is_empty()) {
            let mut found = Model::default();
            found.add_version("1", path.clone(), None, &roots);
            scan.add(model.to_owned(), found);
        } else if let Err(error) = is_folder {
            // A link to a folder on a disk that is gone, for one: not the same as no folder.
            let problem = Some(format!("{} can't be read: {error}", path.display()));
            scan.add(name.to_owned(), Model { problem, ..Model::default() });
        }
    }
    Ok(scan)
}

impl Scan {
    fn add(&mut self, name: String, model: Model) {
        use std::collections::btree_map::Entry;
        match self.models.entry(name) {
            Entry::Vacant(entry) => {
                entry.insert(model);
            }
            Entry::Occupied(mut entry) => {
                let problem = format!("both a file {0}.onnx and a folder {0} claim the model's name", entry.key());
                entry.get_mut().problem = Some(problem);
            }
        }
    }
}

/// The model of that name in a repository as it is now; `None` where there is none.
pub fn scan_one(folder: &Path, name: &str, marker: Option<&str>, links: &[PathBuf]) -> Option<Model> {
    // What clients name is no path.
    if name.contains('/') || visible_name(Path::new(name)) != Some(name) {
        return None;
    }
    let file = folder.join(format!("{name}.onnx"));
    let roots = Roots::new(folder, links);
    let mut model = scan_model(&folder.join(name), marker, &roots).filter(|_| folder.join(name).is_dir());
    if file.is_file() {
        model.get_or_insert_default().add_version("1", file, None, &roots);
    }
    model
}

/// The model in a folder; `None` where nothing in it looks like one.
fn scan_model(folder: &Path, marker: Option<&str>, roots: &Roots) -> Option<Model> {
    let mut model = Model::default();
    let config = scan_entries(folder, marker, roots, &mut model).unwrap_or_else(|error| {
        model.problem = Some(format!("{} can't be read: {error}", folder.display()));
        None
    });
    let has_config = config.is_some_and(|path| read_config(&path, roots, &mut model));
    let has_versions = !model.versions.is_empty() || !model.incomplete.is_empty();
    (has_config || model.problem.is_some() || has_versions).then_some(model)
}

/// Adds the versions in a model's folder; where its settings are, if they are there. Every look at the repository does this
/// for every model: the folder's list says what most things in it are, without another system call for each.
fn scan_entries(folder: &Path, marker: Option<&str>, roots: &Roots, model: &mut Model) -> io::Result<Option<PathBuf>> {
    let mut config = None;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let Some(name) = visible_name(&path) else { continue };
        if name == CONFIG_FILE {
            config = Some(path);
        } else if is_number(name) {
            // What can't be read counts as a folder: loading it will tell, and what is loaded of it goes on serving.
            if !is_folder(&entry).unwrap_or(true) {
                continue;
            }
            if marker.is_none_or(|marker| path.join(marker).exists()) {
                model.add_version(name, path.join(MODEL_FILE), Some(&path), roots);
            } else if let Ok(version) = name.parse() {
                model.incomplete.insert(version);
            }
        } else if let Some(number) = name.strip_suffix(".onnx").filter(|stem| is_number(stem))
            && !is_folder(&entry).unwrap_or(false)
        {
            model.add_version(number, path.clone(), None, roots);
        }
    }
    Ok(config)
}

/// Whether an entry of a folder is a folder itself, or a link to one.
fn is_folder(entry: &fs::DirEntry) -> io::Result<bool> {
    let kind = entry.file_type()?;
    if kind.is_symlink() { fs::metadata(entry.path()).map(|metadata| metadata.is_dir()) } else { Ok(kind.is_dir()) }
}

/// Reads a model's `config.toml`; false where it is gone, or leads nowhere.
fn read_config(path: &Path, roots: &Roots, model: &mut Model) -> bool {
    let file = match roots.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return false,
        opened => opened.map(|(file, _)| file),
    };
    let name = path.display();
    let settings = document::read(&name, file).and_then(|text| {
        // They go into one line of the log.
        ModelConfig::parse(&name, &text).map_err(|problems| problems.join("; "))
    });
    match settings {
        Ok(config) => model.config = config,
        Err(problem) => drop(model.problem.get_or_insert(problem)),
    }
    true
}

impl Model {
    /// Adds the version that `number` names; `folder` is its own, where it has one.
    fn add_version(&mut self, number: &str, path: PathBuf, folder: Option<&Path>, roots: &Roots) {
        let Some(version) = number.parse().ok().filter(|&version: &u64| version > 0) else {
            self.problem =
                Some(format!("{}: a version is a positive integer below 2^64, got '{number}'", path.display()));
            return;
        };
        let source = Source::new(path.clone(), folder.map(Path::to_owned), roots);
        if let Some(other) = self.versions.insert(version, source) {
            let (a, b) = (other.path.display(), path.display());
            self.problem = Some(format!("version {version} stands there twice: {a} and {b}"));
        }
    }
}

/// A model whose name is no UTF-8, under that name with escapes; `None` where it looks like none.
fn unnamed(path: &Path, marker: Option<&str>, roots: &Roots) -> Option<(String, Model)> {
    let bytes = path.file_name()?.as_encoded_bytes();
    let is_hidden = bytes.starts_with(b".");
    let is_model = || bytes.ends_with(b".onnx") || path.is_dir() && scan_model(path, marker, roots).is_some();
    if is_hidden || str::from_utf8(bytes).is_ok() || !is_model() {
        return None;
    }
    let name = bytes.escape_ascii().to_string();
    let problem = format!("the name {name} is no UTF-8, and requests can't name the model: rename it");
    Some((name, Model { problem: Some(problem), ..Model::default() }))
}

/// The name of a file or folder, unless it is hidden or not text.
fn visible_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str().filter(|name| !name.starts_with('.'))
}

fn is_number(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}
