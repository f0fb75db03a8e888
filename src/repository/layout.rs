//! Words about what looks like a model and matches no layout: what it is, and what to do.

use std::{
    fmt::Display,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{model::Scan, names::MODEL_FILE, pbtxt::PBTXT_FILE, recognise::by_name};

/// Entries of folders that one explanation looks at.
const MAX_ENTRIES: usize = 2048;

/// Folders in folders that are looked into.
const MAX_DEPTH: usize = 4;

/// Sentences of one explanation.
const MAX_SENTENCES: usize = 32;

/// True if a file of this name may be a model, of this server or of another.
pub(super) fn is_telling(name: &str) -> bool {
    is_onnx(name) || by_name(name).is_some()
}

/// Says that there is nothing at all.
pub(super) fn nothing(root: &Path) -> String {
    let root = root.display();
    format!(
        "the model repository {root} holds no models: expected {root}/MODEL/VERSION/{MODEL_FILE}, {root}/MODEL/VERSION.onnx or \
         {root}/MODEL.onnx"
    )
}

/// A sentence about each stray that holds a model which is not served.
pub(super) fn explain(root: &Path, scan: &Scan) -> Vec<String> {
    let mut budget = MAX_ENTRIES;
    let strays = scan.strays.iter().filter_map(|stray| explain_one(root, stray, scan, &mut budget));
    let mut sentences: Vec<String> = strays.take(MAX_SENTENCES + 1).collect();
    if sentences.len() > MAX_SENTENCES {
        sentences[MAX_SENTENCES] = "there is more of the kind, which is not told".into();
    }
    sentences
}

fn explain_one(root: &Path, stray: &Path, scan: &Scan, budget: &mut usize) -> Option<String> {
    let mut found = StrayFiles::default();
    if stray.is_dir() {
        found.collect(stray, scan, MAX_DEPTH, budget);
    } else {
        found.add(stray, scan);
    }
    let shown = stray.display();
    if let Some(mlmodel) = &found.mlmodel {
        let folder = mlmodel.parent().unwrap_or(stray).display();
        return Some(match found.onnx() {
            Some(file) => {
                format!("{folder} is an MLflow model, whose layout is not served: {}", place(root, file, scan))
            }
            None => format!("{folder} is an MLflow model without an ONNX file: save it with mlflow.onnx.save_model"),
        });
    }
    if let Some(file) = found.onnx() {
        let what = if found.is_of_hugging_face { " (a checkout from Hugging Face)" } else { "" };
        let more = match found.onnx.len() - 1 {
            0 => String::new(),
            more => format!(", nor are {more} more .onnx files in {shown}"),
        };
        return Some(format!(
            "{}{what} is not served, since it matches no layout{more}: {}",
            file.display(),
            place(root, file, scan)
        ));
    }
    if is_beside_what_is_served(root, stray, scan) {
        return None;
    }
    if let Some(other) = &found.other {
        let seems = by_name(other.file_name()?.to_str()?)?;
        return Some(format!("{} is not served: {seems}", other.display()));
    }
    found.has_pbtxt.then(|| {
        format!("{shown} holds {PBTXT_FILE} and no ONNX file, and is not served: only models in ONNX format are")
    })
}

/// True if a stray lies in the folder of a model that is served, or beside its file: there it may be what that was made from.
fn is_beside_what_is_served(root: &Path, stray: &Path, scan: &Scan) -> bool {
    let inside = stray.strip_prefix(root).unwrap_or(stray);
    let is_served = |name: &Path| name.to_str().is_some_and(|name| scan.models.contains_key(name));
    inside.components().count() > 1 || is_served(&inside.with_extension(""))
}

/// Files of a stray.
#[derive(Debug, Default)]
struct StrayFiles {
    onnx: Vec<PathBuf>,
    /// MLflow's description of a model.
    mlmodel: Option<PathBuf>,
    /// The first model of another kind.
    other: Option<PathBuf>,
    is_of_hugging_face: bool,
    has_pbtxt: bool,
}

impl StrayFiles {
    fn collect(&mut self, folder: &Path, scan: &Scan, depth: usize, budget: &mut usize) {
        let mut entries: Vec<PathBuf> =
            fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).take(*budget).collect();
        *budget -= entries.len();
        entries.sort();
        for path in &entries {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            self.is_of_hugging_face |=
                ["tokenizer.json", "tokenizer_config.json", "config.json", "snapshots"].contains(&&*name);
            if path.is_dir() {
                let is_other = by_name(&name).is_some();
                if is_other {
                    self.other.get_or_insert_with(|| path.clone());
                } else if depth > 0 && !name.starts_with('.') {
                    self.collect(path, scan, depth - 1, budget);
                }
            } else {
                self.add(path, scan);
            }
        }
    }

    fn add(&mut self, path: &Path, scan: &Scan) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match &*name {
            name if name.starts_with('.') => {}
            "MLmodel" => drop(self.mlmodel.get_or_insert_with(|| path.to_owned())),
            PBTXT_FILE => self.has_pbtxt = true,
            name if is_onnx(name) => {
                // A file that a link serves under another name is served.
                let inode = fs::metadata(path).map(|metadata| metadata.ino());
                let mut sources = scan.models.values().flat_map(|model| model.versions.values());
                if !inode.is_ok_and(|inode| sources.any(|source| source.fingerprint.is_of(inode))) {
                    self.onnx.push(path.to_owned());
                }
            }
            name if by_name(name).is_some() => drop(self.other.get_or_insert_with(|| path.to_owned())),
            _ => {}
        }
    }

    /// The file that is reported: the one with the usual name, else the first.
    fn onnx(&self) -> Option<&Path> {
        let usual = self.onnx.iter().find(|path| path.file_name().is_some_and(|name| name == MODEL_FILE));
        usual.or(self.onnx.first()).map(PathBuf::as_path)
    }
}

/// Says how a file comes into a layout.
fn place(root: &Path, file: &Path, scan: &Scan) -> String {
    let inside = file.strip_prefix(root).unwrap_or(file);
    let parts: Vec<String> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let alone = format!("or serve it alone: onnxd serve {}", file.display());
    let at = |model: &str, rest: &dyn Display| root.join(model).join(rest.to_string()).display().to_string();
    let versions = |model: &str| scan.models.get(model).map(|model| &model.versions);
    let next =
        |model: &str| versions(model).and_then(|versions| versions.last_key_value()).map_or(1, |(last, _)| last + 1);
    match &*parts {
        [.., name] if !name.ends_with(".onnx") => {
            let renamed = file.with_extension("onnx");
            format!("names end in .onnx in small letters: mv {} {}", file.display(), renamed.display())
        }
        // Such as `bert/v1/model.onnx`.
        [model, version, name] if version_number(version).is_some() => {
            let number = version_number(version)
                .filter(|number| !versions(model).is_some_and(|known| known.contains_key(number)));
            let (folder, to) = (at(model, version), at(model, &number.unwrap_or_else(|| next(model))));
            let rename = match &**name {
                MODEL_FILE => String::new(),
                name => format!(" && mv {to}/{name} {to}/{MODEL_FILE}"),
            };
            format!("a version is a whole number: mv {folder} {to}{rename}, {alone}")
        }
        // Such as `v1/model.onnx`.
        [version, _] if version_number(version).is_some() => {
            let (folder, to) = (root.join("MODEL"), at("MODEL", &version_number(version).unwrap_or(1)));
            format!(
                "a version is a whole number in the folder of its model: mkdir {} && mv {} {to}, {alone}",
                folder.display(),
                root.join(version).display()
            )
        }
        [model, name] if name == MODEL_FILE => {
            let folder = at(model, &next(model));
            format!(
                "a version has a folder or a number: mkdir {folder} && ln -s ../{name} {folder}/{name} (with its weights, if there \
                 are any), {alone}"
            )
        }
        [model, name] => {
            let (from, to) = (at(model, name), at(model, &format_args!("{}.onnx", next(model))));
            format!("a version's file is named by its number: mv {from} {to}, {alone}")
        }
        [model, folder, name] if name == MODEL_FILE => {
            format!("link its folder as a version: ln -s {folder} {}, {alone}", at(model, &next(model)))
        }
        [model, ..] => {
            let to = at(model, &format_args!("{}/{MODEL_FILE}", next(model)));
            format!("put it at {to} with its weights, {alone}")
        }
        [] => alone,
    }
}

/// True if a file of this name is meant to be an ONNX model, in capital letters too.
pub(super) fn is_onnx(name: &str) -> bool {
    name.len() > 5 && name.as_bytes()[name.len() - 5..].eq_ignore_ascii_case(b".onnx")
}

/// The number that a name seems to stand for which is written otherwise: `v1`, `1.0.0`, `version-2`.
fn version_number(name: &str) -> Option<u64> {
    let lower = name.to_ascii_lowercase();
    let rest = ["version", "ver", "v"].iter().find_map(|prefix| lower.strip_prefix(prefix)).unwrap_or(&lower);
    let mut parts = rest.trim_start_matches(['-', '_', '.']).split(['.', '-', '_']);
    let first: u64 = parts.next()?.parse().ok()?;
    parts.all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())).then_some(first.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_versions_are_recognised() {
        for (name, expected) in [
            ("v1", Some(1)),
            ("1.0.0", Some(1)),
            ("V2", Some(2)),
            ("version-3", Some(3)),
            ("v0.1", Some(1)),
            ("2024-05-01", Some(2024)),
        ] {
            assert_eq!(version_number(name), expected, "{name}");
        }
        for name in ["onnx", "v", "vit", "1.0.0-rc1", "bert", "latest", ""] {
            assert_eq!(version_number(name), None, "{name}");
        }
    }
}
