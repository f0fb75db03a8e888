//! The files of a version's test cases: `tests/*.json` in its folder. `loader/test_case.rs` parses them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::model::Source;
use crate::error::Failure;

const FOLDER: &str = "tests";
const ENDING: &str = ".json";

/// Test cases of a version at most, and bytes of one.
const MAX_CASES: usize = 256;
const MAX_CASE_BYTES: u64 = 64 << 20;

impl Source {
    /// The files of the version's test cases, in the order of their names, and those that lie there without being one. Only
    /// a version with a folder of its own can have them.
    ///
    /// # Errors
    /// The folder can't be read, or holds too many.
    pub fn test_cases(&self) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Failure> {
        let Some(folder) = self.folder.as_ref().map(|folder| folder.join(FOLDER)) else {
            return Ok((Vec::new(), Vec::new()));
        };
        let unreadable = |error: io::Error| Failure::unreadable(&error).at(&folder);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.is_symlink() => {
                return Ok((Vec::new(), Vec::new()));
            }
            Err(error) => return Err(unreadable(error)),
        };
        let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let visible = paths.map_err(unreadable)?.into_iter().filter(|path| !name(path).starts_with('.'));
        let (mut cases, mut others): (Vec<_>, Vec<_>) = visible.partition(|path| name(path).ends_with(ENDING));
        if cases.len() > MAX_CASES {
            let found = cases.len();
            return Err(Failure::lasting(format!("at most {MAX_CASES} test cases are run, got {found}")).at(&folder));
        }
        cases.sort();
        others.sort();
        Ok((cases, others))
    }

    /// The text of a test case.
    ///
    /// # Errors
    /// It can't be read, or is too large.
    pub fn read_test_case(&self, path: &Path) -> Result<String, Failure> {
        let read = self.path.roots().read_text(path, MAX_CASE_BYTES);
        read.map_err(|error| Failure::unreadable(&error).at(path))
    }
}
