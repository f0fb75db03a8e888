//! Root of a repository: a folder of models, one model's folder, one version of a model, or one model file.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{
    layout,
    model::{RepositoryModel, Scan},
    names::{CONFIG_FILE, MODEL_FILE, is_number},
    scan::{Rules, read_config},
};
use crate::host::files::Roots;

/// A place that models are served from: a folder of models, one model's folder, or one model file.
#[derive(Debug, Clone)]
pub struct Repository {
    /// The path, as it was given.
    path: PathBuf,
    kind: RootKind,
    /// File that a version's folder holds once it is complete, where there is such a rule.
    marker: Option<String>,
    /// Folders outside of the repository that links in it may lead to.
    links: Vec<PathBuf>,
}

/// Kind of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RootKind {
    /// A folder of models.
    Models,
    /// The folder of one model, of which one version may be meant.
    Model { name: String, folder: PathBuf, only: Option<u64> },
    /// A model file, which is version 1.
    File { name: String, file: PathBuf },
}

impl Repository {
    /// The repository at a path. Where there is a `marker`, a version with a folder counts only when that holds a file of this name.
    /// Links may lead about in it, and to the folders in `links`.
    ///
    /// # Errors
    /// There is nothing, or it can't be read; the message names the path.
    pub fn open(path: &Path, marker: Option<String>, links: &[PathBuf]) -> Result<Self, String> {
        let repository = Repository::find(path, marker, links)?;
        match &repository.kind {
            RootKind::File { file, .. }
                if !file.file_name().is_some_and(|name| layout::is_onnx(&name.to_string_lossy())) =>
            {
                Err(format!(
                    "{} can't be read: {}; expected a folder of models, a model's folder, or a file whose name ends in .onnx",
                    path.display(),
                    io::Error::from_raw_os_error(libc::ENOTDIR)
                ))
            }
            _ => Ok(repository),
        }
    }

    fn find(path: &Path, marker: Option<String>, links: &[PathBuf]) -> Result<Self, String> {
        let mut repository = Repository { path: path.into(), kind: RootKind::Models, marker, links: links.into() };
        repository.kind =
            repository.find_shape().map_err(|error| format!("{} can't be read: {error}", path.display()))?;
        Ok(repository)
    }

    /// Opens a path as a part of the repository that it belongs to: links may lead about in that.
    ///
    /// # Errors
    /// There is nothing, or it can't be read; the message names the path.
    pub fn open_part(path: &Path, links: &[PathBuf]) -> Result<Self, String> {
        let mut part = Repository::find(path, None, links)?;
        let around = match &part.kind {
            RootKind::Models => None,
            RootKind::Model { folder, .. } => Some(beside(folder, "..")),
            RootKind::File { file, .. } => Some(beside(file, "")),
        };
        part.links.extend(around);
        Ok(part)
    }

    /// The same with this name for its one model. Of a folder of models that is the model of this name, or the only one; one with
    /// several others is served as it is, with a warning.
    ///
    /// # Errors
    /// The folder can't be read; the message names it.
    pub fn with_model_name(mut self, model_name: &str) -> Result<Self, String> {
        if let RootKind::Model { name, .. } | RootKind::File { name, .. } = &mut self.kind {
            model_name.clone_into(name);
            return Ok(self);
        }
        let models = self.scan(&Scan::default())?.models;
        if models.is_empty() || models.contains_key(model_name) {
            return Ok(self);
        }
        let names: Vec<&str> = models.keys().map(String::as_str).collect();
        let &[only] = &*names else {
            tracing::warn!(
                setting = "--model-name",
                value = model_name,
                path = %self.path.display(),
                models = names.join(", "),
                "setting ignored, the path holds several models, which keep their names"
            );
            return Ok(self);
        };
        let (name, file) = (model_name.to_owned(), self.path.join(format!("{only}.onnx")));
        self.kind = match fs::symlink_metadata(&file) {
            Ok(_) => RootKind::File { name, file },
            Err(_) => RootKind::Model { name, folder: self.path.join(only), only: None },
        };
        Ok(self)
    }

    /// Path, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Model that alone is served, with the path that it is served from; `None` in a folder of models.
    pub fn only_model(&self) -> Option<(&str, &Path)> {
        match &self.kind {
            RootKind::Models => None,
            RootKind::Model { name, folder, .. } => Some((name, folder)),
            RootKind::File { name, file } => Some((name, file)),
        }
    }

    /// Folder in which changes matter, and whether those of folders in it do.
    pub fn watched(&self) -> (PathBuf, bool) {
        match &self.kind {
            RootKind::Models => (self.path.clone(), true),
            RootKind::Model { folder, .. } => (folder.clone(), true),
            RootKind::File { file, .. } => (beside(file, ""), false),
        }
    }

    /// True if the folder of a model is there.
    pub fn has_folder_of(&self, model: &str) -> bool {
        match &self.kind {
            RootKind::Models => self.path.join(model).is_dir(),
            RootKind::Model { folder, .. } => folder.is_dir(),
            RootKind::File { .. } => false,
        }
    }

    /// Reads the repository as it is now. Of what has not changed since the scan `before` no file is read.
    ///
    /// # Errors
    /// The folder itself can't be read; the message names it. Problems inside are reported per model.
    pub fn scan(&self, before: &Scan) -> Result<Scan, String> {
        let failed = |error| format!("the model repository {} can't be read: {error}", self.path.display());
        let device = fs::metadata(self.watched().0).map_err(failed)?.dev();
        let rules = self.rules(before);
        let scan = match &self.kind {
            RootKind::Models => rules.scan_folder(&self.path).map_err(failed)?,
            RootKind::Model { name, folder, only } => {
                let mut scan = Scan::default();
                if let Some(mut model) = rules.scan_model(name, folder, &mut scan.strays) {
                    if let Some(only) = only {
                        // One that is no version has been reported as the model's problem.
                        model.versions.retain(|version, _| version == only);
                        scan.strays.clear();
                    }
                    scan.models.insert(name.clone(), model);
                }
                scan
            }
            RootKind::File { name, file } => {
                let model = file_with_settings(&rules, name, file);
                Scan { models: model.map(|model| (name.clone(), model)).into_iter().collect(), ..Scan::default() }
            }
        };
        Ok(Scan { device, ..scan })
    }

    /// The model of that name as it is now; `None` where there is none.
    pub fn scan_one(&self, name: &str) -> Option<RepositoryModel> {
        match &self.kind {
            RootKind::Models => self.rules(&Scan::default()).scan_one(&self.path, name),
            RootKind::Model { .. } | RootKind::File { .. } => self.scan(&Scan::default()).ok()?.models.remove(name),
        }
    }

    /// Sentences about what looks like a model and is not served: what it is, and what to do. They say so too where there is
    /// nothing at all.
    pub fn unserved(&self, scan: &Scan) -> Vec<String> {
        let root = match &self.kind {
            RootKind::Models => Some(self.path.as_path()),
            RootKind::Model { folder, .. } => folder.file_name().and(folder.parent()),
            RootKind::File { .. } => None,
        };
        let found = root.map_or_else(Vec::new, |root| layout::explain(root, scan));
        if !scan.models.is_empty() || !found.is_empty() {
            return found;
        }
        vec![match self.only_model() {
            None => layout::nothing(&self.path),
            Some((_, path)) if path.is_dir() => format!("{} holds no version any more", path.display()),
            Some((_, path)) => format!("{} is not there any more", path.display()),
        }]
    }

    fn rules<'a>(&'a self, before: &'a Scan) -> Rules<'a> {
        let named = match &self.kind {
            // A version was named, and its model's settings lie beside it.
            RootKind::Model { folder, only: Some(_), .. } => Some(folder.clone()),
            _ => None,
        };
        // A file that was named may be read, wherever it leads.
        let target = fs::canonicalize(&self.path).ok().filter(|path| path.is_file());
        let target = target.and_then(|file| Some(file.parent()?.to_owned()));
        let others: Vec<PathBuf> = named.into_iter().chain(target).chain(self.links.iter().cloned()).collect();
        let own = if self.path.is_dir() { self.path.clone() } else { self.watched().0 };
        Rules { roots: Roots::new(&own, &others), marker: self.marker.as_deref(), before }
    }

    fn find_shape(&self) -> io::Result<RootKind> {
        let path = &self.path;
        let metadata = fs::symlink_metadata(path)?;
        let name = name(path);
        // A path that can't be followed is a file that can't be loaded.
        if !fs::metadata(path).map_or(metadata.is_dir(), |metadata| metadata.is_dir()) {
            return Ok(file_shape(path, name));
        }
        if is_number(&name) && fs::symlink_metadata(path.join(MODEL_FILE)).is_ok() {
            return Ok(version_of(&beside(path, ".."), &name));
        }
        let (before, mut strays) = (Scan::default(), BTreeSet::new());
        let rules = self.rules(&before);
        let Some(own) = rules.scan_model(&name, path, &mut strays) else { return Ok(RootKind::Models) };
        let models = rules.scan_folder(path)?.models;
        // `1.onnx` is a version beside `2/model.onnx`, and a model beside `iris.onnx`.
        let is_own = |name: &String| is_number(name) && path.join(format!("{name}.onnx")).is_file();
        let has_version = || own.versions.values().any(|source| fs::symlink_metadata(&source.path).is_ok());
        let is_model = models.is_empty() || models.keys().all(is_own) && has_version();
        Ok(if is_model { RootKind::Model { name, folder: path.clone(), only: None } } else { RootKind::Models })
    }
}

fn file_shape(path: &Path, file: String) -> RootKind {
    let folder = beside(path, "");
    let stem = if layout::is_onnx(&file) { &file[..file.len() - ".onnx".len()] } else { &file };
    if is_number(stem) && stem != file {
        return version_of(&folder, stem);
    }
    let number = name(&folder);
    if file == MODEL_FILE && is_number(&number) {
        return version_of(&beside(&folder, ".."), &number);
    }
    RootKind::File { name: stem.to_owned(), file: path.to_owned() }
}

/// One version of the model in a folder.
fn version_of(folder: &Path, number: &str) -> RootKind {
    RootKind::Model { name: name(folder), folder: folder.to_owned(), only: number.parse().ok() }
}

/// A model file, with the settings in the folder of its name beside it.
fn file_with_settings(rules: &Rules<'_>, name: &str, file: &Path) -> Option<RepositoryModel> {
    fs::symlink_metadata(file).ok()?;
    let mut model = rules.scan_file(name, file);
    if file.extension().is_some() {
        read_config(&file.with_extension("").join(CONFIG_FILE), &rules.roots, &mut model);
    }
    Some(model)
}

/// The folder that a path lies in. Where the path itself doesn't name it, `up` leads there.
fn beside(path: &Path, up: &str) -> PathBuf {
    match path.parent() {
        Some(parent) if path.file_name().is_some() && parent != Path::new("") => parent.to_owned(),
        _ if path.file_name().is_some() => PathBuf::from("."),
        _ => path.join(up),
    }
}

/// The name of the file or folder at a path, also where the path ends in dots.
fn name(path: &Path) -> String {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    name(path).or_else(|| name(&fs::canonicalize(path).ok()?)).unwrap_or_else(|| "model".into())
}
