//! Deaths of the server that a model is to blame for, remembered in the state folder: a version that ended the server twice is
//! not loaded into it again until a call asks for it.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use crate::{error::Failure, host::crash};

const FILE: &str = "deaths";

/// The advice for a model that ends the process that runs it.
pub(super) const ADVICE: &str =
    "to serve it nevertheless, in a worker process, write isolation = \"process\" into the model's config.toml";

/// Deaths by one version's files before they are quarantined.
const MAX_DEATHS: usize = 2;

/// Deaths that are remembered at most.
const MAX_RECORDS: usize = 1000;

/// The deaths that are remembered.
#[derive(Debug)]
pub struct Deaths {
    path: PathBuf,
    /// Oldest first.
    records: Mutex<Vec<DeathRecord>>,
}

/// One death, or one of several versions that may be to blame for it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DeathRecord {
    is_new: bool,
    signal: String,
    /// Seconds since the epoch.
    time: u64,
    phase: String,
    /// True if the thread that the signal hit ran the version.
    is_certain: bool,
    model: String,
    version: u64,
    /// SHA-256 of its files, in hexadecimal digits.
    digest: String,
}

impl Deaths {
    /// The deaths that a state folder keeps. New ones are logged, and deaths of this process are recorded there from now on.
    pub fn open(folder: &Path) -> Self {
        let path = folder.join(FILE);
        let mut records = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).lines().filter_map(DeathRecord::parse).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "crash records unreadable, deaths before this start unknown");
                Vec::new()
            }
        };
        for record in records.iter_mut().filter(|record| record.is_new) {
            record.is_new = false;
            record.report();
        }
        let deaths = Deaths { path, records: Mutex::new(records) };
        match deaths.write().and_then(|()| File::options().append(true).open(&deaths.path)) {
            Ok(file) => crash::install(file),
            Err(error) => {
                let path = deaths.path.display();
                tracing::debug!(%path, %error, "crash records not writable, a crash leaves no record");
            }
        }
        deaths
    }

    /// Checks that files may be loaded into this process.
    ///
    /// # Errors
    /// They have ended it too often.
    pub(in crate::loader) fn check(&self, digest: &str) -> Result<(), Failure> {
        let records = self.records();
        let of_files: Vec<_> = records.iter().filter(|record| record.is_certain && record.digest == digest).collect();
        let Some(last) = of_files.last().filter(|_| of_files.len() >= MAX_DEATHS) else { return Ok(()) };
        let count = of_files.len();
        Err(Failure::lasting(format!(
            "it has ended the server {count} times (the last time by {}, {}) and is quarantined: a call to load or reload it lifts \
             that; {ADVICE}",
            last.signal,
            last.when()
        )))
    }

    /// Forgets the deaths that a version, or any of a model, is to blame for.
    pub(crate) fn forgive(&self, model: &str, version: Option<u64>) {
        let mut records = self.records();
        let before = records.len();
        let model = crash::recorded_name(model);
        records.retain(|record| record.model != model || version.is_some_and(|version| version != record.version));
        let is_changed = records.len() != before;
        drop(records);
        if is_changed && let Err(error) = self.write() {
            tracing::warn!(
                model,
                version,
                path = %self.path.display(),
                %error,
                "crash records not writable, quarantine lifted until the next start only"
            );
        }
    }

    /// Writes all that is remembered. In place: the file that the handler appends to stays the same.
    fn write(&self) -> io::Result<()> {
        let records = self.records();
        let kept = &records[records.len().saturating_sub(MAX_RECORDS)..];
        let text: String = kept.iter().map(DeathRecord::line).collect();
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&self.path, text)
    }

    fn records(&self) -> MutexGuard<'_, Vec<DeathRecord>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DeathRecord {
    /// A line of the file; `None` where it is none, such as one that was cut short.
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split('\t').collect();
        let [state, signal, time, phase, attribution, model, version, digest] = fields[..] else { return None };
        Some(DeathRecord {
            is_new: state == "new",
            signal: signal.into(),
            time: time.parse().ok()?,
            phase: phase.into(),
            is_certain: attribution == "certain",
            model: model.into(),
            version: version.parse().ok()?,
            digest: digest.into(),
        })
    }

    fn line(&self) -> String {
        let DeathRecord { is_new, signal, time, phase, is_certain, model, version, digest } = self;
        let state = if *is_new { "new" } else { "reported" };
        let attribution = if *is_certain { "certain" } else { "candidate" };
        format!("{state}\t{signal}\t{time}\t{phase}\t{attribution}\t{model}\t{version}\t{digest}\n")
    }

    fn when(&self) -> String {
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(self.time));
        // A year that has no four digits was never written by the handler.
        let time = time.filter(|_| self.time < 253_402_300_800);
        time.map_or_else(|| "at an unknown time".into(), |time| humantime::format_rfc3339_seconds(time).to_string())
    }

    fn report(&self) {
        let DeathRecord { signal, phase, model, version, .. } = self;
        let time = self.when();
        if self.is_certain {
            tracing::error!(model, version, signal, phase, time, "server was ended by this version");
        } else {
            tracing::error!(
                model,
                version,
                signal,
                phase,
                time,
                "server was ended while this version ran, which may be to blame"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(model: &str, version: u64, digest: &str) -> DeathRecord {
        DeathRecord {
            is_new: false,
            signal: "SIGFPE".into(),
            time: 1_700_000_000,
            phase: "run".into(),
            is_certain: true,
            model: model.into(),
            version,
            digest: digest.into(),
        }
    }

    fn deaths(folder: &Path, records: Vec<DeathRecord>) -> Deaths {
        Deaths { path: folder.join(FILE), records: Mutex::new(records) }
    }

    #[test]
    fn second_death_quarantines_until_it_is_forgiven() {
        let folder = tempfile::tempdir().unwrap();
        let candidate = DeathRecord { is_certain: false, ..record("m", 1, "a") };
        let all = vec![record("m", 1, "a"), candidate, record("m", 2, "b"), record("n", 1, "b"), record("n", 1, "b")];
        let deaths = deaths(folder.path(), all);
        assert_eq!(deaths.check("a"), Ok(()), "once, and another that is not certain");
        let refused = deaths.check("b").unwrap_err();
        assert!(refused.why.contains("3 times (the last time by SIGFPE, 2023-11-14T22:13:20Z)"), "{}", refused.why);
        assert!(!refused.may_pass);
        deaths.forgive("n", Some(2));
        assert!(deaths.check("b").is_err());
        deaths.forgive("n", None);
        assert_eq!(deaths.check("b"), Ok(()));
        let kept = fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert_eq!(kept.lines().count(), 3);
    }

    proptest! {
        #[test]
        fn death_records_round_trip_and_survive_any_text(text in "(?s).{0,200}", version: u64, time: u64, is_new: bool) {
            text.lines().filter_map(DeathRecord::parse).for_each(|record| drop(record.when()));
            let record = DeathRecord { is_new, time, version, ..record("m", 1, "a") };
            prop_assert_eq!(DeathRecord::parse(record.line().trim_end()), Some(record));
        }
    }
}
