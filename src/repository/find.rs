//! What a path stands for: a repository, a model's folder, or a version's folder or file.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{MODEL_FILE, Model, is_number, scan, scan_model};

/// The models at a path, as a server would find them: of a version only that one.
///
/// # Errors
/// There is nothing, or it can't be read; the message names the path.
pub fn find(path: &Path) -> Result<BTreeMap<String, Model>, String> {
    let metadata = fs::symlink_metadata(path).map_err(|error| format!("{} can't be read: {error}", path.display()))?;
    let name = name(path);
    // What can't be followed is a file that can't be loaded.
    if !fs::metadata(path).map_or(metadata.is_dir(), |metadata| metadata.is_dir()) {
        return Ok(find_file(path, &name));
    }
    if is_number(&name) && fs::symlink_metadata(path.join(MODEL_FILE)).is_ok() {
        return Ok(version_of(&beside(path, ".."), &name));
    }
    match scan_model(path, None) {
        Some(model) => Ok(BTreeMap::from([(name, model)])),
        None => Ok(scan(path, None)?.models),
    }
}

fn find_file(path: &Path, file: &str) -> BTreeMap<String, Model> {
    let folder = beside(path, "");
    let stem = file.strip_suffix(".onnx").unwrap_or(file);
    if is_number(stem) && stem != file {
        return version_of(&folder, stem);
    }
    let number = name(&folder);
    if file == MODEL_FILE && is_number(&number) {
        return version_of(&beside(&folder, ".."), &number);
    }
    let mut model = Model::default();
    model.add_version("1", path.to_owned(), None);
    BTreeMap::from([(stem.to_owned(), model)])
}

/// One version of the model in a folder.
fn version_of(folder: &Path, number: &str) -> BTreeMap<String, Model> {
    let mut model = scan_model(folder, None).unwrap_or_default();
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
