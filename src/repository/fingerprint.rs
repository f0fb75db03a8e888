#[cfg(test)]
mod test_access;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{engine::weights_files, host::files::ModelPath};

/// The state of a version's files: two that are equal were taken of the same contents, as far as sizes, times and inodes
/// show. Links are followed, so that turning a link counts as a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// The model file first, where it is there.
    files: Vec<FileState>,
    /// The files of weights that the model file names, whether they are there or not.
    weights: Arc<BTreeSet<PathBuf>>,
}

/// The state of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileState {
    path: PathBuf,
    /// The part of the mode that says whether it is a file, a folder, or what else.
    kind: u32,
    size: u64,
    /// In nanoseconds.
    modified: i128,
    /// When the contents or the metadata changed: a copy that keeps the time of its original can't hide here, and a file that
    /// may be read now counts as another.
    changed: i128,
    inode: u64,
}

/// Files of a version's folder that are looked at, and folders in folders: a version has a few.
const MAX_FILES: usize = 1024;
const DEEPEST: usize = 4;

impl Fingerprint {
    /// The present state of a model file, of the weights that it names and, where the version has a folder of its own, of the files
    /// in it and in its folders: test cases may lie there. The model file is read where it is not as it was `before`.
    pub(super) fn take(model: &ModelPath, folder: Option<&Path>, before: Option<&Fingerprint>) -> Self {
        let state = FileState::take(model);
        let known = before.filter(|before| state.is_some() && before.model(model) == state.as_ref());
        let weights = match known {
            Some(before) => before.weights.clone(),
            // One that can't be read has another state once it can.
            None => Arc::new(weights_files(model).unwrap_or_default()),
        };
        // The model file comes first, so that it is reported whatever else there is.
        let mut fingerprint = Fingerprint { files: state.into_iter().collect(), weights };
        if let Some(folder) = folder {
            fingerprint.add_folder(folder, model, DEEPEST);
        }
        let listed: BTreeSet<&Path> = fingerprint.files.iter().map(|file| file.path.as_path()).collect();
        let others = fingerprint.weights.iter().filter(|path| !listed.contains(path.as_path()));
        let others: Vec<FileState> = others.filter_map(|path| FileState::take(path)).collect();
        fingerprint.files.extend(others);
        fingerprint
    }

    fn model(&self, path: &Path) -> Option<&FileState> {
        self.files.first().filter(|file| file.path == path)
    }

    /// True if the model file is another than `before`, and the weights that it names, of which some are there, are the same: they may
    /// still be on their way.
    pub fn may_await_weights(&self, before: &Fingerprint) -> bool {
        let weights = |of: &Fingerprint| -> Vec<FileState> {
            of.files.iter().filter(|file| self.weights.contains(&file.path)).cloned().collect()
        };
        let now = weights(self);
        self.files.first() != before.files.first() && !now.is_empty() && now == weights(before)
    }

    /// True if the model file is the one with this inode.
    pub(super) fn is_of(&self, inode: u64) -> bool {
        self.files.first().is_some_and(|file| file.inode == inode)
    }

    fn add_folder(&mut self, folder: &Path, model: &Path, depth: usize) {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        // Where the list says that it is a file, nobody needs to ask again.
        let is_file = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_file());
        let mut entries: Vec<(PathBuf, bool)> = entries.map(|entry| (entry.path(), is_file(&entry))).collect();
        entries.sort();
        for (path, is_file) in entries {
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if self.files.len() >= MAX_FILES {
                return;
            }
            if path != model {
                self.files.extend(FileState::take(&path));
            }
            if depth > 0 && !hidden && !is_file && path.is_dir() {
                self.add_folder(&path, model, depth - 1);
            }
        }
    }

    /// The files, without folders and what can't be read.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().filter(|file| file.kind == libc::S_IFREG).map(|file| file.path.as_path())
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

impl FileState {
    /// The state of the file or folder at a path, if there is one. The state of a link is that of its target; its own where
    /// the target is not there.
    pub(super) fn take(path: &Path) -> Option<FileState> {
        let metadata = fs::metadata(path).or_else(|_| fs::symlink_metadata(path)).ok()?;
        let nanoseconds =
            |seconds: i64, nanoseconds: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        let kind = metadata.mode() & libc::S_IFMT;
        if metadata.is_dir() {
            // Its times change with what is in it, of which that counts which belongs to the version.
            return Some(FileState { path: path.to_owned(), kind, size: 0, modified: 0, changed: 0, inode: 0 });
        }
        Some(FileState {
            path: path.to_owned(),
            kind,
            size: metadata.len(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
        })
    }
}
