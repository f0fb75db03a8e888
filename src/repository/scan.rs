//! Reads folders of models as they are now.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    layout,
    model::{RepositoryModel, Scan, Source},
    names::{CONFIG_FILE, MODEL_FILE, is_number, visible_name},
    pbtxt::{IgnoredConfig, PBTXT_FILE},
};
use crate::{
    config::{ModelConfig, document},
    host::files::Roots,
};

/// Rules of a scan of folders.
pub(super) struct Rules<'a> {
    pub roots: Roots,
    pub marker: Option<&'a str>,
    /// The last scan: an unchanged file is not read again.
    pub before: &'a Scan,
}

impl Rules<'_> {
    /// The models in a folder of models.
    pub(super) fn scan_folder(&self, folder: &Path) -> io::Result<Scan> {
        let mut scan = Scan::default();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            let Some(name) = visible_name(&path) else {
                if let Some((name, model)) = self.scan_unnamed(&path) {
                    scan.add(name, model);
                }
                continue;
            };
            let is_folder = is_folder(&entry);
            if *is_folder.as_ref().unwrap_or(&false) {
                match self.scan_model(name, &path, &mut scan.strays) {
                    Some(model) => scan.add(name.to_owned(), model),
                    None => drop(scan.strays.insert(path)),
                }
            } else if let Some(model) = name.strip_suffix(".onnx").filter(|model| !model.is_empty()) {
                scan.add(model.to_owned(), self.scan_file(model, &path));
            } else if let Err(error) = is_folder {
                // A link to a folder on a disk that is gone, for one: not the same as no folder.
                let problem = Some(format!("{} can't be read: {error}", path.display()));
                scan.add(name.to_owned(), RepositoryModel { problem, ..RepositoryModel::default() });
            } else if layout::is_telling(name) {
                scan.strays.insert(path);
            }
        }
        Ok(scan)
    }

    /// The model of that name in a folder of models; `None` where there is none.
    pub(super) fn scan_one(&self, folder: &Path, name: &str) -> Option<RepositoryModel> {
        // Names from clients are no paths.
        if name.contains('/') || visible_name(Path::new(name)) != Some(name) {
            return None;
        }
        let (own, file) = (folder.join(name), folder.join(format!("{name}.onnx")));
        let mut scan = Scan::default();
        if let Some(model) = self.scan_model(name, &own, &mut BTreeSet::new()).filter(|_| own.is_dir()) {
            scan.add(name.to_owned(), model);
        }
        if file.is_file() {
            scan.add(name.to_owned(), self.scan_file(name, &file));
        }
        scan.models.remove(name)
    }

    /// The model that is a file: version 1.
    pub(super) fn scan_file(&self, name: &str, file: &Path) -> RepositoryModel {
        let mut found = RepositoryModel::default();
        self.add_version(name, &mut found, "1", file.to_owned(), None);
        found
    }

    /// The model in a folder; `None` where nothing in it looks like one. What may hold models and matches no layout is added to
    /// the strays.
    pub(super) fn scan_model(
        &self,
        name: &str,
        folder: &Path,
        strays: &mut BTreeSet<PathBuf>,
    ) -> Option<RepositoryModel> {
        let mut model = RepositoryModel::default();
        let mut own_strays = Vec::new();
        let config = self.scan_entries(name, folder, &mut model, &mut own_strays).unwrap_or_else(|error| {
            model.problem = Some(format!("{} can't be read: {error}", folder.display()));
            None
        });
        let has_config = config.is_some_and(|path| read_config(&path, &self.roots, &mut model));
        let has_versions = !model.versions.is_empty() || !model.incomplete.is_empty();
        let is_model = has_config || model.problem.is_some() || has_versions;
        // Else the folder is one as a whole.
        strays.extend(own_strays.into_iter().filter(|_| is_model));
        is_model.then_some(model)
    }

    /// Adds the versions in a model's folder; where its settings are, if they are there. Every look at the repository does this
    /// for every model: the folder's list says what most things in it are, without another system call for each.
    fn scan_entries(
        &self,
        model_name: &str,
        folder: &Path,
        model: &mut RepositoryModel,
        strays: &mut Vec<PathBuf>,
    ) -> io::Result<Option<PathBuf>> {
        let mut config = None;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            let Some(name) = visible_name(&path) else { continue };
            if name == CONFIG_FILE {
                config = Some(path);
            } else if name == PBTXT_FILE {
                let before = self.before.models.get(model_name).and_then(|model| model.ignored.as_ref());
                model.ignored = Some(IgnoredConfig::read(&path, &self.roots, before));
            } else if is_number(name) {
                // An entry that can't be read counts as a folder: loading it will report that, and loaded versions of it go on
                // serving.
                if !is_folder(&entry).unwrap_or(true) {
                    continue;
                }
                if self.marker.is_none_or(|marker| path.join(marker).exists()) {
                    self.add_version(model_name, model, name, path.join(MODEL_FILE), Some(&path));
                } else if let Ok(version) = name.parse() {
                    model.incomplete.insert(version);
                }
            } else if let Some(number) = name.strip_suffix(".onnx").filter(|stem| is_number(stem))
                && !is_folder(&entry).unwrap_or(false)
            {
                self.add_version(model_name, model, number, path.clone(), None);
            } else if layout::is_telling(name) || is_folder(&entry).unwrap_or(false) {
                strays.push(path);
            }
        }
        Ok(config)
    }

    /// Adds the version that `number` names; `folder` is its own, where it has one.
    fn add_version(&self, name: &str, model: &mut RepositoryModel, number: &str, path: PathBuf, folder: Option<&Path>) {
        let Some(version) = number.parse().ok().filter(|&version: &u64| version > 0) else {
            model.problem =
                Some(format!("{}: a version is a positive integer below 2^64, got '{number}'", path.display()));
            return;
        };
        let before = self.before.models.get(name).and_then(|model| model.versions.get(&version));
        let before = before.filter(|before| *before.path == *path);
        let source = Source::new(path.clone(), folder.map(Path::to_owned), &self.roots, before);
        if let Some(other) = model.versions.insert(version, source) {
            let (a, b) = (other.path.display(), path.display());
            model.problem = Some(format!("version {version} stands there twice: {a} and {b}"));
        }
    }

    /// A model whose name is no UTF-8, under that name with escapes; `None` where it looks like none.
    fn scan_unnamed(&self, path: &Path) -> Option<(String, RepositoryModel)> {
        let bytes = path.file_name()?.as_encoded_bytes();
        let is_hidden = bytes.starts_with(b".");
        let is_model =
            || bytes.ends_with(b".onnx") || path.is_dir() && self.scan_model("", path, &mut BTreeSet::new()).is_some();
        if is_hidden || str::from_utf8(bytes).is_ok() || !is_model() {
            return None;
        }
        let name = bytes.escape_ascii().to_string();
        let problem = format!("the name {name} is no UTF-8, and requests can't name the model: rename it");
        Some((name, RepositoryModel { problem: Some(problem), ..RepositoryModel::default() }))
    }
}

impl Scan {
    /// Adds a model, or the other part of one: its file, or the folder that holds its settings.
    fn add(&mut self, name: String, model: RepositoryModel) {
        let has_versions = |model: &RepositoryModel| !model.versions.is_empty() || !model.incomplete.is_empty();
        let Some(known) = self.models.remove(&name) else {
            self.models.insert(name, model);
            return;
        };
        let (mut file, folder) = if has_versions(&known) { (known, model) } else { (model, known) };
        if has_versions(&folder) {
            file.problem = Some(format!(
                "both the file {name}.onnx and a version in the folder {name} claim the model's name: put the file into the \
                 folder, as {name}/VERSION/{MODEL_FILE}"
            ));
        } else {
            let problem = file.problem.take().or_else(|| folder.problem.clone());
            file = RepositoryModel { versions: file.versions, incomplete: file.incomplete, problem, ..folder };
        }
        self.models.insert(name, file);
    }
}

/// True if an entry of a folder is a folder itself, or a link to one.
fn is_folder(entry: &fs::DirEntry) -> io::Result<bool> {
    let kind = entry.file_type()?;
    if kind.is_symlink() { fs::metadata(entry.path()).map(|metadata| metadata.is_dir()) } else { Ok(kind.is_dir()) }
}

/// Reads a model's `config.toml`; false where it is gone, or leads nowhere.
pub(super) fn read_config(path: &Path, roots: &Roots, model: &mut RepositoryModel) -> bool {
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
