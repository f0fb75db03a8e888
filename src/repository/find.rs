//! What a path stands for: a repository, a model's folder, or a version's folder or file.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{MODEL_FILE, Model, is_number, scan, scan_model};
use crate::files::Roots;

/// The models at a path, as a server would find them: of a version only that one. Links may lead about in the repository that it
/// belongs to, and to the folders in `links`.
///
/// # Errors
/// There is nothing, or it can't be read; the message names the path.
pub fn find(path: &Path, links: &[PathBuf]) -> Result<BTreeMap<String, Model>, String> {
    let metadata = fs::symlink_metadata(path).map_err(|error| format!("{} can't be read: {error}", path.display()))?;
    let name = name(path);
    // What can't be followed is a file that can't be loaded.
    if !fs::metadata(path).map_or(metadata.is_dir(), |metadata| metadata.is_dir()) {
        return Ok(find_file(path, &name, links));
    }
    if is_number(&name) && fs::symlink_metadata(path.join(MODEL_FILE)).is_ok() {
        return Ok(version_of(&beside(path, ".."), &name, path, links));
    }
    match scan_model(path, None, &around(&beside(path, ".."), path, links)) {
        Some(model) => Ok(BTreeMap::from([(name, model)])),
        None => Ok(scan(path, None, links)?.models),
    }
}

/// The folders that files may lie in: the repository, what was named, wherever it leads, and those that are allowed.
fn around(repository: &Path, named: &Path, links: &[PathBuf]) -> Roots {
    let named = fs::canonicalize(named).ok().and_then(|named| match named.is_dir() {
        true => Some(named),
        false => named.parent().map(Path::to_owned),
    });
    let others: Vec<PathBuf> = named.into_iter().chain(links.iter().cloned()).collect();
    Roots::new(repository, &others)
}

fn find_file(path: &Path, file: &str, links: &[PathBuf]) -> BTreeMap<String, Model> {
    let folder = beside(path, "");
    let stem = file.strip_suffix(".onnx").unwrap_or(file);
    if is_number(stem) && stem != file {
        return version_of(&folder, stem, path, links);
    }
    let number = name(&folder);
    if file == MODEL_FILE && is_number(&number) {
        return version_of(&beside(&folder, ".."), &number, path, links);
    }
    let mut model = Model::default();
    model.add_version("1", path.to_owned(), None, &around(&folder, path, links));
    BTreeMap::from([(stem.to_owned(), model)])
}

/// One version of the model in a folder, which was `named`.
fn version_of(folder: &Path, number: &str, named: &Path, links: &[PathBuf]) -> BTreeMap<String, Model> {
    let roots = around(&beside(folder, ".."), named, links);
    let mut model = scan_model(folder, None, &roots).unwrap_or_default();
    let number: Option<u64> = number.parse().ok();
    // One that is no version has been told as the model's problem.
    model.versions.retain(|version, _| number.is_none_or(|number| number == *version));
    BTreeMap::from([(name(folder), model)])
}

/// The folder that a path lies in. Where its own words don't tell, `up` leads there.
fn beside(path: &Path, up: &str) -> PathBuf {
    match path.parent() {
        Some(parent) if path.file_name().is_some() && parent != Path::new("") => parent.to_owned(),
        _ if path.file_name().is_some() => PathBuf::from("."),
        _ => path.join(up),
    }
}

/// The name of what is at a path, also where the path ends in dots.
fn name(path: &Path) -> String {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    name(path).or_else(|| name(&fs::canonicalize(path).ok()?)).unwrap_or_else(|| "model".into())
}
