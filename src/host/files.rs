//! Opens the files of a model repository: regular files only, and none that a link leads to from outside.
//!
//! A model may come from anywhere, and may be unpacked with links in it. If a link to a file of the host were taken for weights,
//! the model would give that file's contents away. So the opened file is checked, not its name, which may lead elsewhere a moment
//! later.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    ops::Deref,
    os::{
        fd::AsRawFd,
        unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

/// Folders that the files of a repository may lie in once links are resolved. By default there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots(Arc<[PathBuf]>);

impl Roots {
    /// The folder of a repository, and others that links may lead to (`--allow-links-to`). Missing folders are left out.
    pub fn new(folder: &Path, others: &[PathBuf]) -> Self {
        let all = [folder].into_iter().chain(others.iter().map(PathBuf::as_path));
        Roots(all.filter_map(|folder| fs::canonicalize(folder).ok()).collect())
    }

    /// The folder of a file that a user has named, and the folder of its target if it is a link.
    pub fn around(file: &Path) -> Self {
        let own = match file.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let target = fs::canonicalize(file).ok().and_then(|file| Some(file.parent()?.to_owned()));
        Roots::new(own, target.as_slice())
    }

    /// Opens a regular file. Opening a pipe would block until somebody writes into it; anything else has no contents to read.
    ///
    /// # Errors
    /// The file can't be opened, is no regular file, or lies outside. Errors that a retry can't fix are `InvalidInput`.
    pub fn open(&self, path: &Path) -> io::Result<(File, Metadata)> {
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        let metadata = file.metadata()?;
        let kind = metadata.file_type();
        let what = match () {
            () if kind.is_file() => {
                self.check(&resolved(path, &file, &metadata)?)?;
                return Ok((file, metadata));
            }
            () if kind.is_dir() => "a folder",
            () if kind.is_fifo() => "a pipe",
            () => "a device",
        };
        Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}, expected a file")))
    }

    /// Checks that a folder, with links resolved, lies inside the roots.
    ///
    /// # Errors
    /// The folder lies outside, or can't be found.
    pub fn check_folder(&self, path: &Path) -> io::Result<()> {
        self.check(&fs::canonicalize(path)?)
    }

    fn check(&self, resolved: &Path) -> io::Result<()> {
        if self.0.iter().any(|root| resolved.starts_with(root)) {
            return Ok(());
        }
        let root = self.0.first().map_or_else(String::new, |root| format!(" {}", root.display()));
        let message = format!(
            "a link leads to {}, outside of the model repository{root}; copy what it leads to into the repository, or allow the folder with --allow-links-to",
            resolved.display()
        );
        Err(io::Error::new(io::ErrorKind::InvalidInput, message))
    }

    /// Reads a text of at most `limit` bytes.
    ///
    /// # Errors
    /// The file can't be opened or read, has more bytes, or is no UTF-8.
    pub fn read_text(&self, path: &Path, limit: u64) -> io::Result<String> {
        let (file, _) = self.open(path)?;
        let mut text = String::new();
        let read = file.take(limit + 1).read_to_string(&mut text)?;
        if read as u64 > limit {
            let message = format!("it has more than {limit} bytes, which is the limit");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(text)
    }
}

/// Resolves the path of an open file by `/proc`. Without `/proc` the path is resolved once more, and must lead to the same file.
fn resolved(path: &Path, file: &File, opened: &Metadata) -> io::Result<PathBuf> {
    if let Ok(resolved) = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())) {
        return Ok(resolved);
    }
    let resolved = fs::canonicalize(path)?;
    let now = fs::metadata(&resolved)?;
    if (now.dev(), now.ino()) == (opened.dev(), opened.ino()) {
        return Ok(resolved);
    }
    Err(io::Error::other("it was replaced while it was opened"))
}

/// The path of a model file, and the folders that it and its other files may lie in. Equality compares the path alone: a folder
/// that is missing for a while must not make it another model.
#[derive(Debug, Clone, Default)]
pub struct ModelPath {
    path: PathBuf,
    roots: Roots,
}

impl ModelPath {
    /// A model file of a repository.
    pub fn new(path: PathBuf, roots: Roots) -> Self {
        ModelPath { path, roots }
    }

    /// A model file that a user has named, with the files beside it.
    pub fn alone(path: &Path) -> Self {
        ModelPath { path: path.to_owned(), roots: Roots::around(path) }
    }

    /// The folders that the model's files may lie in.
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// The folder of the model file.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }
}

impl PartialEq for ModelPath {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for ModelPath {}

impl Deref for ModelPath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for ModelPath {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    #[test]
    fn text_reader_rejects_large_and_irregular_files() {
        let folder = TempDir::new().unwrap();
        let roots = Roots::new(folder.path(), &[PathBuf::from("/dev")]);
        let path = folder.path().join("text");
        fs::write(&path, "12345").unwrap();
        assert_eq!(roots.read_text(&path, 5).unwrap(), "12345");
        assert!(roots.read_text(&path, 4).unwrap_err().to_string().contains("more than 4 bytes"));
        let refused = |path: &Path| roots.read_text(path, 5).unwrap_err().to_string();
        assert_eq!(refused(folder.path()), "it is a folder, expected a file");
        assert_eq!(refused(Path::new("/dev/zero")), "it is a device, expected a file");
    }

    #[test]
    fn links_are_followed_inside_roots_and_allowed_folders() {
        let (folder, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let (root, outside) = (folder.path().join("repository"), folder.path().join("repository-of-others"));
        for path in [&root, &outside, &root.join("data"), &root.join("model")] {
            fs::create_dir(path).unwrap();
        }
        for path in [root.join("data/inside"), outside.join("secret"), other.path().join("allowed")] {
            fs::write(path, "text").unwrap();
        }
        // The repository itself may be a link.
        let link = folder.path().join("link");
        symlink(&root, &link).unwrap();
        symlink(&outside, root.join("elsewhere")).unwrap();
        let roots = Roots::new(&link, &[other.path().to_owned()]);
        let nothing = Roots::default();
        for (name, target, is_inside) in [
            ("relative", PathBuf::from("../data/inside"), true),
            ("absolute", root.join("data/inside"), true),
            ("allowed", other.path().join("allowed"), true),
            ("secret", PathBuf::from("../../repository-of-others/secret"), false),
            ("through", PathBuf::from("../elsewhere/secret"), false),
            ("host", PathBuf::from("/etc/passwd"), false),
        ] {
            let path = link.join("model").join(name);
            symlink(target, &path).unwrap();
            let opened = roots.open(&path);
            assert_eq!(opened.is_ok(), is_inside, "{name}: {opened:?}");
            if let Err(error) = opened {
                let message = error.to_string();
                assert!(message.contains("outside of the model repository"), "{message}");
                assert!(
                    message.contains("--allow-links-to") && message.contains("secret") != (name == "host"),
                    "{message}"
                );
            }
            assert!(nothing.open(&path).is_err(), "{name}");
        }
        assert!(roots.check_folder(&link.join("data")).is_ok());
        assert!(roots.check_folder(&link.join("elsewhere")).is_err());
        assert!(Roots::around(&link.join("model/secret")).open(&link.join("model/secret")).is_ok(), "it was named");
    }
}
