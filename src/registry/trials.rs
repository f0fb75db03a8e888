//! The files that have passed a trial, remembered in the state folder so that a restart does not try them again.

use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use super::{isolation::hexadecimal, plan::Wanted};
use crate::{
    engine::{Engine, Instance, ModelFile},
    error::Failure,
    repository::read_test_case,
};

const FILE: &str = "trials";

/// The first line of the file.
const HEADER: &str = "onnxd-trials 1";

/// Trials that are remembered at most.
const MAX_TRIALS: usize = 4096;

/// What was tried: the files, the library, and the settings that decide what is run. SHA-256 in hexadecimal digits.
pub(super) type Key = String;

/// The files that have passed a trial.
pub struct Trials {
    /// `None`: they are not kept.
    path: Option<PathBuf>,
    /// Oldest first.
    passed: Mutex<Vec<Key>>,
    /// Child processes that have run a trial and can run another.
    children: Mutex<Vec<Instance>>,
    /// Whether it was reported that none can be had.
    is_reported: AtomicBool,
}

impl Trials {
    /// Those that are kept in a state folder.
    pub fn open(folder: &Path) -> Self {
        let path = folder.join(FILE);
        let passed = match read(&path) {
            Ok(passed) => passed,
            Err(why) => {
                tracing::warn!("{} {why}: models are tried again", path.display());
                Vec::new()
            }
        };
        Trials {
            path: Some(path),
            passed: Mutex::new(passed),
            children: Mutex::default(),
            is_reported: AtomicBool::new(false),
        }
    }

    /// None, and what passes is not kept.
    pub fn forgetful() -> Self {
        Trials { path: None, passed: Mutex::default(), children: Mutex::default(), is_reported: AtomicBool::new(false) }
    }

    /// What a trial of a file would be about.
    ///
    /// # Errors
    /// A test case can't be read.
    pub(super) fn key(&self, engine: &Engine, wanted: &Wanted, file: &ModelFile) -> Result<Key, Failure> {
        let mut hasher = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        add(HEADER.as_bytes());
        add(env!("CARGO_PKG_VERSION").as_bytes());
        add(engine.build_info().as_bytes());
        add(format!("{:?}", wanted.config.batching).as_bytes());
        add(&file.digest());
        for path in wanted.source.test_cases()?.0 {
            add(read_test_case(&path)?.as_bytes());
        }
        Ok(hexadecimal(hasher.finalize()))
    }

    /// Whether it has passed.
    pub(super) fn has_passed(&self, key: &Key) -> bool {
        self.passed().contains(key)
    }

    /// Remembers a trial that has passed.
    pub(super) fn add(&self, key: Key) {
        let mut passed = self.passed();
        passed.push(key);
        let excess = passed.len().saturating_sub(MAX_TRIALS);
        passed.drain(..excess);
        if let Some(path) = &self.path
            && let Err(error) = write(path, &passed)
        {
            tracing::debug!("{} can't be written: {error}; models are tried again after a restart", path.display());
        }
    }

    /// Reports, once, that no file can be tried.
    pub(super) fn report_unavailable(&self, why: &str) {
        if !self.is_reported.swap(true, Relaxed) {
            tracing::warn!(error = why, "files are loaded without a trial: no child process can be started");
        }
    }

    /// A child for the next trial, if there is one.
    pub(super) fn take_child(&self) -> Option<Instance> {
        self.children().pop()
    }

    /// Keeps a child for the next trial, until [`Self::end_children`].
    pub(super) fn keep_child(&self, child: Instance) {
        self.children().push(child);
    }

    /// Ends the children that wait for a trial.
    pub(super) fn end_children(&self) {
        // Dropped without the lock: that waits for their end.
        let children = std::mem::take(&mut *self.children());
        drop(children);
    }

    fn children(&self) -> MutexGuard<'_, Vec<Instance>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn passed(&self) -> MutexGuard<'_, Vec<Key>> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The trials in a file; none where there is no file.
fn read(path: &Path) -> Result<Vec<Key>, String> {
    let text = match fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| "is damaged".to_owned())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("can't be read: {error}")),
    };
    parse(&text).ok_or_else(|| "is damaged".to_owned())
}

fn parse(text: &str) -> Option<Vec<Key>> {
    let mut lines = text.lines();
    let is_key = |line: &&str| line.len() == 64 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    if lines.next() != Some(HEADER) || !lines.clone().all(|line| is_key(&line)) {
        return None;
    }
    Some(lines.take(MAX_TRIALS).map(str::to_owned).collect())
}

/// Replaces the file. It need not be flushed: what is lost is tried again.
fn write(path: &Path, passed: &[Key]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // What another server on the folder has added stays.
    let others = read(path).unwrap_or_default();
    let known: BTreeSet<&Key> = passed.iter().collect();
    let all: Vec<&str> = others.iter().filter(|key| !known.contains(key)).chain(passed).map(String::as_str).collect();
    let kept = &all[all.len().saturating_sub(MAX_TRIALS)..];
    let beside = path.with_extension("new");
    fs::write(&beside, format!("{HEADER}\n{}\n", kept.join("\n")))?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        format!("{number:064x}")
    }

    #[test]
    fn trials_are_kept_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("made/when/needed");
        let trials = Trials::open(&folder);
        assert!(!trials.has_passed(&key(1)));
        trials.add(key(1));
        // Of another server, at the same time.
        fs::write(folder.join(FILE), format!("{HEADER}\n{}\n{}\n", key(1), key(7))).unwrap();
        trials.add(key(2));
        let again = Trials::open(&folder);
        assert!([1, 2, 7].iter().all(|number| again.has_passed(&key(*number))));
        *again.passed() = (0..MAX_TRIALS).map(key).collect();
        again.add(key(MAX_TRIALS));
        let again = Trials::open(&folder);
        assert!(!again.has_passed(&key(0)) && again.has_passed(&key(MAX_TRIALS)));
    }

    #[test]
    fn a_damaged_file_is_no_trial_and_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        for damaged in [&b"\xff"[..], b"", b"onnxd-trials 2\n", b"onnxd-trials 1\nshort\n"] {
            fs::write(folder.path().join(FILE), damaged).unwrap();
            let trials = Trials::open(folder.path());
            assert!(!trials.has_passed(&key(1)));
            trials.add(key(1));
            assert!(Trials::open(folder.path()).has_passed(&key(1)));
        }
    }
}
