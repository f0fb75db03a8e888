use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// The state of a version's files: two that are equal were taken of the same contents, as far as sizes, times and inodes can
/// tell. Links are followed, so that turning a link counts as a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprint {
    files: Vec<FileState>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FileState {
    path: PathBuf,
    size: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

impl Fingerprint {
    /// The present state of a model file and, where the version has a folder of its own, of the files in it: weights may lie
    /// beside the model. What can't be read is left out, so that its coming is a change.
    pub(super) fn take(model: &Path, folder: Option<&Path>) -> Self {
        let mut paths: Vec<PathBuf> = match folder {
            None => vec![model.into()],
            Some(folder) => fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect(),
        };
        paths.sort();
        Fingerprint { files: paths.into_iter().filter_map(file_state).collect() }
    }

    /// Whether the files are still as they were.
    pub fn is_current(&self) -> bool {
        self.files.iter().all(|file| file_state(file.path.clone()).as_ref() == Some(file))
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

fn file_state(path: PathBuf) -> Option<FileState> {
    let metadata = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
    Some(FileState { path, size: metadata.len(), modified: metadata.modified().ok(), inode: metadata.ino() })
}
