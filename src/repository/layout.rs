//! Words about what looks like a model and matches no layout: what it is, and what to do.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{MODEL_FILE, Scan, pbtxt::PBTXT_FILE, recognise::by_name};

/// Entries of folders that one explanation looks at.
const MAX_ENTRIES: usize = 2048;

/// Folders in folders that are looked into.
const MAX_DEPTH: usize = 4;

/// Sentences of one explanation.
const MAX_SENTENCES: usize = 32;

/// Whether a file of this name may be a model, of this server or of another.
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
    let mut found = Found::default();
    if stray.is_dir() {
        found.collect(stray, scan, MAX_DEPTH, budget);
    } else {
        found.add(stray, scan);
    }
    let shown = stray.display();
    if let Some(mlmodel) = &found.mlmodel {
        let folder = mlmodel.parent().unwrap_or(stray).display();
        return Some(match found.onnx() {
            Some(file) => format!("{folder} is an MLflow model, whose layout is not served: {}", place(root, file)),
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
            place(root, file)
        ));
    }
    if let Some(other) = &found.other {
        let seems = by_name(other.file_name()?.to_str()?)?;
        return Some(format!("{} is not served: {seems}", other.display()));
    }
    found.has_pbtxt.then(|| {
        format!("{shown} holds {PBTXT_FILE} and no ONNX file, and is not served: only models in ONNX format are")
    })
}

/// What lies in a stray.
#[derive(Debug, Default)]
struct Found {
    onnx: Vec<PathBuf>,
    /// MLflow's description of a model.
    mlmodel: Option<PathBuf>,
    /// The first model of another kind.
    other: Option<PathBuf>,
    is_of_hugging_face: bool,
    has_pbtxt: bool,
}

impl Found {
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
                // What a link serves under another name is served.
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

    /// The file that is told: the one with the usual name, else the first.
    fn onnx(&self) -> Option<&Path> {
        let usual = self.onnx.iter().find(|path| path.file_name().is_some_and(|name| name == MODEL_FILE));
        usual.or(self.onnx.first()).map(PathBuf::as_path)
    }
}

/// Says how a file comes into a layout.
fn place(root: &Path, file: &Path) -> String {
    let inside = file.strip_prefix(root).unwrap_or(file);
    let parts: Vec<String> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let (root, file_name) = (root.display(), parts.last().map_or("", String::as_str));
    let alone = format!("or serve it alone: onnxd serve {}", file.display());
    let stem = file_name.get(..file_name.len().saturating_sub(5)).unwrap_or_default();
    if !file_name.ends_with(".onnx") {
        let renamed = file.with_extension("onnx");
        return format!("names end in .onnx in small letters: mv {} {}", file.display(), renamed.display());
    }
    match &*parts {
        [name] => format!("put it at {root}/{name}"),
        // Such as `bert/v1/model.onnx`.
        [model, version, name] if version_number(version).is_some() => {
            let number = version_number(version).unwrap_or(1);
            let rename = if name == MODEL_FILE {
                String::new()
            } else {
                format!(" && mv {root}/{model}/{number}/{name} {root}/{model}/{number}/{MODEL_FILE}")
            };
            format!("a version is a whole number: mv {root}/{model}/{version} {root}/{model}/{number}{rename}, {alone}")
        }
        // Such as `v1/model.onnx`.
        [version, _] if version_number(version).is_some() => {
            let number = version_number(version).unwrap_or(1);
            format!(
                "a version is a whole number in the folder of its model: mkdir {root}/MODEL && mv {root}/{version} \
                 {root}/MODEL/{number}, {alone}"
            )
        }
        [model, name] if name == MODEL_FILE => format!(
            "a version has a folder or a number: mkdir {root}/{model}/1 && ln -s ../{name} {root}/{model}/1/{name} (with its weights, if \
             there are any), {alone}"
        ),
        [model, name] => {
            format!("a version's file is named by its number: mv {root}/{model}/{name} {root}/{model}/1.onnx, {alone}")
        }
        [model, folder, name] if name == MODEL_FILE => {
            format!("link its folder as a version: ln -s {folder} {root}/{model}/1, {alone}")
        }
        [model, ..] => {
            format!("put it at {root}/{model}/1/{MODEL_FILE} or {root}/{stem}.onnx with its weights, {alone}")
        }
        [] => alone,
    }
}

/// Whether a file of this name is meant to be an ONNX model, in capital letters too.
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
