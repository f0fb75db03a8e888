//! The results of trials, remembered in the state folder so that a restart does not try the same files again.

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

use super::request::LoadRequest;
use crate::{
    engine::{Engine, Instance, ModelFile},
    error::Failure,
    host::crash::recorded_name,
    terminal::escape,
};

const FILE: &str = "trials";

/// The first line of the file.
const HEADER: &str = "onnxd-trials 3";

/// Trials that are remembered at most.
const MAX_TRIALS: usize = 4096;

/// Key of a trial: SHA-256, in hexadecimal digits, of the files, the library, and the settings that decide on the runs.
pub(in crate::loader) type TrialKey = String;

/// The results of trials.
pub struct Trials {
    /// `None`: they are not kept.
    path: Option<PathBuf>,
    /// Oldest first.
    records: Mutex<Vec<TrialRecord>>,
    /// Child processes that have run a trial and can run another.
    children: Mutex<Vec<Instance>>,
    /// True if the log has a line on trials that can't be run.
    is_reported: AtomicBool,
}

/// The result of one trial.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct TrialRecord {
    key: TrialKey,
    outcome: TrialOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum TrialOutcome {
    Passed(Passed),
    Failed(FailedTrial),
}

/// A trial that a file has passed.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::loader) struct Passed {
    /// Why it is not to run with empty inputs, if a run with some ended its child process.
    pub needs_elements: Option<String>,
}

/// A trial that ended its child process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct FailedTrial {
    version: u64,
    /// The model, as records have it.
    model: String,
    why: String,
}

impl TrialRecord {
    /// A line of the file; `None` where it is none.
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split('\t').collect();
        let passed = |needs_elements| TrialOutcome::Passed(Passed { needs_elements });
        let (key, outcome) = match fields[..] {
            [key, "passed"] => (key, passed(None)),
            [key, "passed", why] => (key, passed(Some(why.into()))),
            [key, "failed", version, model, why] => {
                let version = version.parse().ok()?;
                (key, TrialOutcome::Failed(FailedTrial { version, model: model.into(), why: why.into() }))
            }
            _ => return None,
        };
        let is_key = key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_key.then(|| TrialRecord { key: key.into(), outcome })
    }

    fn line(&self) -> String {
        let TrialRecord { key, outcome } = self;
        match outcome {
            TrialOutcome::Passed(Passed { needs_elements: None }) => format!("{key}\tpassed\n"),
            TrialOutcome::Passed(Passed { needs_elements: Some(why) }) => format!("{key}\tpassed\t{why}\n"),
            TrialOutcome::Failed(FailedTrial { version, model, why }) => {
                format!("{key}\tfailed\t{version}\t{model}\t{why}\n")
            }
        }
    }

    /// True if it is a failure of that version, or of any of the model.
    fn is_failure_of(&self, recorded_model: &str, version: Option<u64>) -> bool {
        let is_same =
            |failed: &FailedTrial| failed.model == recorded_model && version.is_none_or(|it| it == failed.version);
        matches!(&self.outcome, TrialOutcome::Failed(failed) if is_same(failed))
    }
}

impl Trials {
    /// The trials that a state folder keeps.
    pub fn open(folder: &Path) -> Self {
        let path = folder.join(FILE);
        let records = match read(&path) {
            Ok(records) => records,
            Err(why) => {
                tracing::warn!(path = %path.display(), error = why, "trial records unreadable, models are tried again");
                Vec::new()
            }
        };
        Trials {
            path: Some(path),
            records: Mutex::new(records),
            children: Mutex::default(),
            is_reported: AtomicBool::new(false),
        }
    }

    /// None, and results are not kept.
    pub fn forgetful() -> Self {
        Trials {
            path: None,
            records: Mutex::default(),
            children: Mutex::default(),
            is_reported: AtomicBool::new(false),
        }
    }

    /// The key of a trial of a file, of which a run may hold so many bytes.
    ///
    /// # Errors
    /// A test case can't be read.
    pub(in crate::loader) fn key(
        &self,
        engine: &Engine,
        request: &LoadRequest,
        file: &ModelFile,
        max_run_memory: usize,
    ) -> Result<TrialKey, Failure> {
        let mut hasher = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        add(HEADER.as_bytes());
        add(env!("CARGO_PKG_VERSION").as_bytes());
        add(engine.build_info().as_bytes());
        add(format!("{:?}", request.config.batching).as_bytes());
        // A trial that is refused memory does not run to its end, so that another limit needs another trial.
        add(&(max_run_memory as u64).to_le_bytes());
        add(&file.digest());
        for path in request.source.test_cases()?.0 {
            add(request.source.read_test_case(&path)?.as_bytes());
        }
        Ok(hexadecimal(hasher.finalize()))
    }

    /// The trial, if it has passed.
    pub(in crate::loader) fn passed(&self, key: &TrialKey) -> Option<Passed> {
        self.records().iter().find_map(|record| match &record.outcome {
            TrialOutcome::Passed(passed) if record.key == *key => Some(passed.clone()),
            _ => None,
        })
    }

    /// Reason why the trial failed for that version, if it did. The same files of another version have a trial of their own, so that a call
    /// about one version forgets what is known of that one alone.
    pub(in crate::loader) fn failure(&self, key: &TrialKey, model: &str, version: u64) -> Option<String> {
        let model = recorded_name(model);
        let records = self.records();
        let found = records.iter().find(|record| record.key == *key && record.is_failure_of(&model, Some(version)));
        match &found?.outcome {
            TrialOutcome::Failed(failed) => Some(failed.why.clone()),
            TrialOutcome::Passed(_) => None,
        }
    }

    /// Remembers a trial that has passed.
    pub(in crate::loader) fn add_passed(&self, key: TrialKey, passed: Passed) {
        let needs_elements = passed.needs_elements.map(|why| escape(&why));
        self.add(TrialRecord { key, outcome: TrialOutcome::Passed(Passed { needs_elements }) });
    }

    /// Remembers a trial of a version that failed for what its files are.
    pub(in crate::loader) fn add_failed(&self, key: TrialKey, model: &str, version: u64, why: &str) {
        let failed = FailedTrial { version, model: recorded_name(model), why: escape(why) };
        self.add(TrialRecord { key, outcome: TrialOutcome::Failed(failed) });
    }

    /// Forgets the failed trials of a version, or of all of a model: the next load tries its files again.
    pub(crate) fn forget_failures(&self, model: &str, version: Option<u64>) {
        let model = recorded_name(model);
        let mut records = self.records();
        let before = records.len();
        records.retain(|record| !record.is_failure_of(&model, version));
        if records.len() != before {
            self.write(&records, |record| record.is_failure_of(&model, version));
        }
    }

    fn add(&self, record: TrialRecord) {
        let mut records = self.records();
        records.push(record);
        let excess = records.len().saturating_sub(MAX_TRIALS);
        records.drain(..excess);
        self.write(&records, |_| false);
    }

    /// Writes all that is remembered, with what another server on the folder has added, but for what is forgotten.
    fn write(&self, records: &[TrialRecord], is_forgotten: impl Fn(&TrialRecord) -> bool) {
        if let Some(path) = &self.path
            && let Err(error) = write(path, records, is_forgotten)
        {
            let path = path.display();
            tracing::debug!(%path, %error, "trial records not writable, models are tried again after a restart");
        }
    }

    /// Reports, once, that no file can be tried.
    pub(in crate::loader) fn report_unavailable(&self, why: &str) {
        if !self.is_reported.swap(true, Relaxed) {
            tracing::warn!(error = why, "no child process can be started, files are loaded without a trial");
        }
    }

    /// A child for the next trial, if there is one.
    pub(in crate::loader) fn take_child(&self) -> Option<Instance> {
        self.children().pop()
    }

    /// Keeps a child for the next trial, until [`Self::end_children`].
    pub(in crate::loader) fn keep_child(&self, child: Instance) {
        self.children().push(child);
    }

    /// Ends the children that wait for a trial.
    pub(in crate::loader) fn end_children(&self) {
        // Dropped without the lock: that waits for their end.
        let children = std::mem::take(&mut *self.children());
        drop(children);
    }

    fn children(&self) -> MutexGuard<'_, Vec<Instance>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn records(&self) -> MutexGuard<'_, Vec<TrialRecord>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The trials in a file; none where there is no file.
fn read(path: &Path) -> Result<Vec<TrialRecord>, String> {
    let text = match fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| "is damaged".to_owned())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("can't be read: {error}")),
    };
    parse(&text).ok_or_else(|| "is damaged".to_owned())
}

fn parse(text: &str) -> Option<Vec<TrialRecord>> {
    let mut lines = text.lines();
    lines.next().filter(|first| *first == HEADER)?;
    lines.take(MAX_TRIALS).map(TrialRecord::parse).collect()
}

/// Replaces the file. It need not be flushed: what is lost is tried again.
fn write(path: &Path, records: &[TrialRecord], is_forgotten: impl Fn(&TrialRecord) -> bool) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let others = read(path).unwrap_or_default();
    let known: BTreeSet<&TrialRecord> = records.iter().collect();
    let others = others.iter().filter(|record| !known.contains(record) && !is_forgotten(record));
    let all: Vec<&TrialRecord> = others.chain(records).collect();
    let lines = all[all.len().saturating_sub(MAX_TRIALS)..].iter().map(|record| record.line());
    let text: String = std::iter::once(format!("{HEADER}\n")).chain(lines).collect();
    let beside = path.with_extension("new");
    fs::write(&beside, text)?;
    fs::rename(&beside, path)
}

/// Bytes as hexadecimal digits.
pub(super) fn hexadecimal(bytes: impl IntoIterator<Item = u8>) -> String {
    bytes.into_iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> TrialKey {
        format!("{number:064x}")
    }

    #[test]
    fn trials_are_kept_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("made/when/needed");
        let trials = Trials::open(&folder);
        assert!(trials.passed(&key(1)).is_none());
        trials.add_passed(key(1), Passed::default());
        // Of another server, at the same time.
        fs::write(folder.join(FILE), format!("{HEADER}\n{}\tpassed\n{}\tpassed\n", key(1), key(7))).unwrap();
        trials.add_passed(key(2), Passed::default());
        let again = Trials::open(&folder);
        assert!([1, 2, 7].iter().all(|number| again.passed(&key(*number)).is_some()));
        *again.records() = (0..MAX_TRIALS)
            .map(|number| TrialRecord { key: key(number), outcome: TrialOutcome::Passed(Passed::default()) })
            .collect();
        again.add_passed(key(MAX_TRIALS), Passed::default());
        let again = Trials::open(&folder);
        assert!(again.passed(&key(0)).is_none() && again.passed(&key(MAX_TRIALS)).is_some());
    }

    #[test]
    fn need_of_elements_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let passed = Passed { needs_elements: Some("it would die".into()) };
        Trials::open(folder.path()).add_passed(key(1), passed.clone());
        assert_eq!(Trials::open(folder.path()).passed(&key(1)), Some(passed));
    }

    #[test]
    fn failures_are_kept_for_each_version_until_they_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let trials = Trials::open(folder.path());
        let (model, why) = ("a\tb", "it died\nand\tsaid so");
        trials.add_failed(key(1), model, 1, why);
        trials.add_failed(key(1), model, 2, why);
        trials.add_failed(key(1), "other", 1, why);
        let again = Trials::open(folder.path());
        assert_eq!(again.failure(&key(1), model, 1).unwrap(), "it died\\nand\\tsaid so");
        assert!(again.passed(&key(1)).is_none());
        assert_eq!(again.failure(&key(1), model, 3), None);
        assert_eq!(again.failure(&key(2), model, 1), None);
        again.forget_failures(model, Some(1));
        let failed = |trials: &Trials| {
            [(model, 1), (model, 2), ("other", 1)]
                .map(|(model, version)| trials.failure(&key(1), model, version).is_some())
        };
        assert_eq!((failed(&again), failed(&Trials::open(folder.path()))), ([false, true, true], [false, true, true]));
        again.forget_failures(model, None);
        assert_eq!(failed(&Trials::open(folder.path())), [false, false, true]);
    }

    #[test]
    fn damaged_trial_file_is_ignored_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let line = |line: &str| format!("{HEADER}\n{line}\n").into_bytes();
        let key_of_other_length = line("short\tpassed");
        for damaged in [
            b"\xff".to_vec(),
            b"onnxd-trials 1\n".to_vec(),
            key_of_other_length,
            line(&format!("{}\tfailed\tone\tm\twhy", key(1))),
            line(&key(1)),
        ] {
            fs::write(folder.path().join(FILE), damaged).unwrap();
            let trials = Trials::open(folder.path());
            assert!(trials.passed(&key(1)).is_none());
            trials.add_passed(key(1), Passed::default());
            assert!(Trials::open(folder.path()).passed(&key(1)).is_some());
        }
    }
}
