//! The store that is a folder: its `state.json` is replaced as a whole.
//!
//! At any moment the disk holds the state before a change or the one after it: a file is written beside, flushed, and renamed.
//! `state.previous.json` is the state before, for the day on which the disk returns something else than was written.

#[cfg(test)]
mod tests;

use std::{
    fmt::{self, Display},
    fs::{self, File, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Desired, audit,
    document::{self, Wrong},
    store::{OnChange, Store, SwapError},
};
use crate::{
    clock,
    error::{Code, Error, Result},
};

const CURRENT: &str = "state.json";
const PREVIOUS: &str = "state.previous.json";
const LOCK: &str = "lock";

/// The lock of the folder. It is given up by a call: to close the file would not do where a child that was just started still has
/// a copy of it.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // It is closed next, which is all that can be done.
        let _ = self.0.unlock();
    }
}

/// A folder that holds the desired state. One server at a time may change it: the one that has locked the folder.
#[derive(Debug)]
pub struct FolderStore {
    folder: PathBuf,
    /// Held while this server may change the state.
    lock: Option<Lock>,
    /// The state as it was read or written last.
    known: Arc<Desired>,
    /// True unless the last attempt to read the state failed.
    is_known: bool,
    /// The state on the disk, as text.
    current: Option<String>,
    /// The last change that is in the audit log.
    audited: u64,
    /// The file that was read or written last.
    seen: Option<Stamp>,
}

/// Identity of a file's contents: device, inode, length, and time of the last change in nanoseconds.
type Stamp = (u64, u64, u64, i128);

impl FolderStore {
    /// The store in a folder, which need not be there. A state that can't be read is reported by [`Store::load`]; one that can't be
    /// changed now is logged, and reported to callers who make changes.
    ///
    /// # Errors
    /// The state was written by a newer server: nothing was touched.
    pub fn open(folder: PathBuf) -> Result<Self, String> {
        let mut store = FolderStore::unread(folder);
        if !store.is_begun() {
            return Ok(store);
        }
        match store.lock_folder() {
            Ok(lock) => store.lock = Some(lock),
            Err(why) => {
                let path = store.folder.display();
                tracing::warn!(%path, error = why, "state folder not locked, admin calls can't change it");
            }
        }
        match store.read(store.lock.is_some()) {
            Ok(read) => store.known = Arc::new(read.unwrap_or_default()),
            Err(Unread::Newer(why)) => return Err(format!("{store}: {why}")),
            Err(Unread::Failed(_)) => (store.lock, store.is_known) = (None, false),
        }
        Ok(store)
    }

    fn unread(folder: PathBuf) -> Self {
        let (lock, known, current, audited, seen) = Default::default();
        FolderStore { folder, lock, known, is_known: true, current, audited, seen }
    }

    /// Locks the folder against other servers, and reads the changes that one of them has made before.
    fn lock_and_read(&mut self) -> Result<()> {
        if self.holds_lock() {
            return Ok(());
        }
        self.lock = None;
        let lock = self.lock_folder().map_err(|why| self.unavailable(&why))?;
        self.read_again(true).map_err(|why| self.unread_error(why))?;
        self.lock = Some(lock);
        Ok(())
    }

    /// Reads the state again. With `mend`, damage in the folder is repaired.
    fn read_again(&mut self, mend: bool) -> std::result::Result<(), Unread> {
        let before = self.current.clone();
        let read = self.read(mend);
        self.is_known = read.is_ok();
        let read = read?;
        if self.current.is_none() {
            // The folder was emptied. The state that this server knows is written with the next change.
            self.current = before;
        } else if self.current != before {
            self.known = Arc::new(read.unwrap_or_default());
        }
        Ok(())
    }

    fn has_state(&self) -> bool {
        [CURRENT, PREVIOUS].iter().any(|name| self.folder.join(name).exists())
    }

    /// True if a server has made a change, or was about to. The folder may exist without one: it also holds trials and deaths.
    fn is_begun(&self) -> bool {
        self.has_state() || [LOCK, audit::FILE].iter().any(|name| self.folder.join(name).exists())
    }

    fn stamp(&self) -> Option<Stamp> {
        let file = fs::metadata(self.folder.join(CURRENT)).ok()?;
        let changed = i128::from(file.mtime()) * 1_000_000_000 + i128::from(file.mtime_nsec());
        Some((file.dev(), file.ino(), file.len(), changed))
    }

    fn create_folder(&self) -> io::Result<()> {
        if self.folder.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(&self.folder)?;
        // Its name is part of what must not be lost.
        self.folder.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        if let Some(previous) = &self.current {
            self.keep(previous)?;
        }
        write_beside(&self.folder, CURRENT, text)?;
        let flushed = File::open(&self.folder)?.sync_all();
        if let (Err(_), Some(previous)) = (&flushed, &self.current) {
            // A restart could find either state. The call reports that the state before holds.
            let _ = write_beside(&self.folder, CURRENT, previous);
        }
        flushed
    }

    /// Keeps the state as the one before the next. Another name for its file will do, if that is still as it was written or
    /// read: what needs no write disturbs no request.
    fn keep(&self, state: &str) -> io::Result<()> {
        let is_untouched = self.seen.is_some() && self.stamp() == self.seen;
        if is_untouched && link_beside(&self.folder, CURRENT, PREVIOUS).is_ok() {
            return Ok(());
        }
        write_beside(&self.folder, PREVIOUS, state)
    }

    /// Adds the missing changes to the audit log.
    fn audit(&mut self, desired: &Desired) -> io::Result<()> {
        let missing = audit::since(desired, self.audited);
        if !missing.is_empty() {
            audit::append(&self.folder, self.audited, &missing)?;
            self.audited = desired.revision;
        }
        Ok(())
    }

    /// Reads what the folder holds; `None`: there is no state. With `mend`, damage there is repaired.
    fn read(&mut self, mend: bool) -> std::result::Result<Option<Desired>, Unread> {
        self.current = None;
        // Before it is read: what comes meanwhile is another.
        self.seen = self.stamp();
        let found = match self.read_file(CURRENT)? {
            StateFileContents::State(state) => Some(state),
            StateFileContents::Nothing => match self.read_file(PREVIOUS)? {
                StateFileContents::State(state) => {
                    tracing::error!(
                        path = %self.folder.join(CURRENT).display(),
                        used = PREVIOUS,
                        "state missing, the one before the last change is used"
                    );
                    Some(state)
                }
                StateFileContents::Nothing | StateFileContents::Damaged(_) => None,
            },
            StateFileContents::Damaged(why) => self.recover(&why, mend)?,
        };
        let last = audit::last_revision(&self.folder, mend);
        let last =
            last.map_err(|error| Unread::Failed(format!("holds an {} that can't be read: {error}", audit::FILE)))?;
        let Some((text, mut desired)) = found else {
            self.audited = last;
            return Ok((last > 0).then(|| Desired { revision: last, ..Desired::default() }));
        };
        self.current = Some(text);
        self.audited = last;
        if mend && let Err(error) = self.audit(&desired) {
            tracing::error!(path = %self.folder.join(audit::FILE).display(), %error, "audit log not written");
        }
        // After a change that was lost its number is not given again.
        desired.revision = desired.revision.max(last);
        Ok(Some(desired))
    }

    /// Sets a damaged state aside, where files may be touched, and reads the one before.
    fn recover(&self, why: &str, mend: bool) -> std::result::Result<Option<(String, Desired)>, Unread> {
        let path = self.folder.join(CURRENT);
        // Before anything is moved: a newer server's files stay where they are.
        let previous = self.read_file(PREVIOUS)?;
        let (path, kept_as) = (path.display(), self.set_aside(CURRENT, mend));
        if let StateFileContents::State(state) = previous {
            let used = PREVIOUS;
            tracing::error!(%path, error = why, kept_as, used, "state damaged, last change may be missing");
            return Ok(Some(state));
        }
        tracing::error!(%path, error = why, kept_as, "state damaged, configurations of the models decide");
        if let StateFileContents::Damaged(why) = previous {
            let (path, kept_as) = (self.folder.join(PREVIOUS), self.set_aside(PREVIOUS, mend));
            tracing::error!(path = %path.display(), error = why, kept_as, "state before the last change damaged too");
        }
        Ok(None)
    }

    /// Renames a file so that nobody takes it for a state; gives its new name, or says why it has none.
    fn set_aside(&self, name: &str, mend: bool) -> String {
        if !mend {
            return name.into();
        }
        let time = humantime::format_rfc3339_micros(clock::now()).to_string().replace(':', "-");
        let aside = format!("{}.damaged-{time}.json", name.trim_end_matches(".json"));
        match fs::rename(self.folder.join(name), self.folder.join(&aside)) {
            Ok(()) => aside,
            Err(error) => format!("{name} (it can't be renamed: {error})"),
        }
    }

    fn read_file(&self, name: &str) -> std::result::Result<StateFileContents, Unread> {
        let bytes = match fs::read(self.folder.join(name)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(StateFileContents::Nothing),
            Err(error) => return Err(Unread::Failed(format!("holds a {name} that can't be read: {error}"))),
        };
        match document::decode(&bytes) {
            Ok(desired) => Ok(StateFileContents::State((String::from_utf8_lossy(&bytes).into_owned(), desired))),
            Err(Wrong::Damaged(why)) => Ok(StateFileContents::Damaged(why)),
            Err(newer @ Wrong::Newer(_)) => Err(Unread::Newer(format!("{name}: {newer}"))),
        }
    }

    /// Locks the folder against other servers, or says why not, as what follows the folder's name.
    fn lock_folder(&self) -> Result<Lock, String> {
        let path = self.folder.join(LOCK);
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let mut file = file.map_err(|error| format!("can't be written: {error}"))?;
        match file.try_lock() {
            Ok(()) => {
                // A server that finds the folder locked shows this. A full disk keeps it from being written.
                let host = gethostname::gethostname();
                let holder = format!("process {} on {}", std::process::id(), host.display());
                let _ = file.set_len(0).and_then(|()| file.write_all(holder.as_bytes()));
                Ok(Lock(file))
            }
            Err(TryLockError::WouldBlock) => Err(format!("is in use by another server{}", holder(&path))),
            Err(TryLockError::Error(error)) => Err(format!("can't be locked: {error}")),
        }
    }

    /// True if other servers would find the lock that this one holds.
    fn holds_lock(&self) -> bool {
        let same = |Lock(lock): &Lock| {
            let (ours, theirs) = (lock.metadata()?, fs::metadata(self.folder.join(LOCK))?);
            Ok::<_, io::Error>((ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()))
        };
        self.lock.as_ref().is_some_and(|lock| same(lock).unwrap_or(false))
    }

    fn unavailable(&self, why: &str) -> Error {
        Error::new(Code::Unavailable, format!("{self} {why}"))
    }

    fn unread_error(&self, why: Unread) -> Error {
        let (Unread::Newer(why) | Unread::Failed(why)) = why;
        self.unavailable(&why)
    }
}

impl Store for FolderStore {
    /// Reads the changes of the server that has locked the folder, and takes the lock once that has ended. A server that holds the
    /// lock reads nothing.
    fn load(&mut self) -> Result<Arc<Desired>> {
        // A folder without a state is that of a server that makes its first change, and has not locked it yet.
        let has_nothing = || !self.folder.exists() || self.is_known && !self.has_state();
        if self.holds_lock() || has_nothing() {
            return Ok(self.known.clone());
        }
        self.lock = None;
        let lock = self.lock_folder().ok();
        let is_read = self.is_known && self.stamp() == self.seen;
        if lock.is_some() || !is_read {
            self.read_again(lock.is_some()).map_err(|why| self.unread_error(why))?;
        }
        if lock.is_some() {
            tracing::info!(path = %self.folder.display(), "state folder locked, admin calls can change it");
            self.lock = lock;
        }
        Ok(self.known.clone())
    }

    /// Locks the folder, where it is there: the first change makes it.
    fn claim(&mut self) -> Result<()> {
        if self.folder.exists() { self.lock_and_read() } else { Ok(()) }
    }

    fn compare_and_swap(&mut self, expected: u64, next: &Arc<Desired>) -> Result<Option<String>, SwapError> {
        let text = document::encode(next).map_err(Error::internal)?;
        self.create_folder().map_err(|error| self.unavailable(&format!("can't be made: {error}")))?;
        let before = self.known.clone();
        self.lock_and_read()?;
        // A folder that was put in the place of the other may be at the same revision.
        if self.known.revision != expected || !Arc::ptr_eq(&self.known, &before) {
            return Err(SwapError::Conflict { found: self.known.revision });
        }
        self.replace(&text).map_err(|error| self.unavailable(&format!("can't be written: {error}")))?;
        (self.current, self.seen) = (Some(text), self.stamp());
        self.known = next.clone();
        Ok(self.audit(next).err().map(|error| {
            let path = self.folder.join(audit::FILE);
            format!("{} can't be written: {error}; what is missing there is added later", path.display())
        }))
    }

    /// Reports nothing: the lock keeps other servers from changing the state, and a server without the lock reads their changes
    /// when it loads the state.
    fn watch(&mut self, _: OnChange) {}
}

impl Display for FolderStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the state folder {}", self.folder.display())
    }
}

/// Description of the process that has locked a file, by its own word, for people; may be empty.
fn holder(lock: &Path) -> String {
    const LONGEST: u64 = 300;
    let mut holder = String::new();
    let read = File::open(lock).and_then(|file| file.take(LONGEST).read_to_string(&mut holder));
    if read.is_ok() && !holder.is_empty() { format!(" ({})", holder.escape_debug()) } else { String::new() }
}

/// Contents of a state file.
enum StateFileContents {
    Nothing,
    State((String, Desired)),
    Damaged(String),
}

/// Why the state is not known, as what follows the folder's name.
enum Unread {
    Newer(String),
    Failed(String),
}

/// Writes a file so that at any moment it is what it was or what it becomes.
fn write_beside(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let beside = folder.join(format!("{name}.new"));
    let mut file = File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(beside, folder.join(name))
}

/// Gives a file a second name, which may have been another's. Not every file system can.
fn link_beside(folder: &Path, name: &str, other: &str) -> io::Result<()> {
    let beside = folder.join(format!("{other}.new"));
    // A server that was killed may have left it.
    let _ = fs::remove_file(&beside);
    fs::hard_link(folder.join(name), &beside)?;
    fs::rename(beside, folder.join(other))
}
