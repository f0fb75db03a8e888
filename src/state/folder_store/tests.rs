//! Promises of the state folder, under crashes and damage.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;

use super::FolderStore;
use crate::{
    error::{Code, Error},
    state::{
        Desired,
        store::{Store, SwapError},
        tests::changed,
    },
};

/// The store in a folder, with the state that it holds.
fn open(path: &Path) -> (FolderStore, Arc<Desired>) {
    let mut store = FolderStore::open(path.into()).unwrap();
    let desired = store.load().unwrap();
    (store, desired)
}

/// Writes the state that comes after `before`.
fn save(store: &mut FolderStore, before: &Desired) -> (Arc<Desired>, Option<String>) {
    let next = changed(before);
    let problem = store.compare_and_swap(before.revision, &next).unwrap();
    (next, problem)
}

/// The error of a state that can't be written.
fn refused(store: &mut FolderStore, before: &Desired) -> Error {
    match store.compare_and_swap(before.revision, &changed(before)).unwrap_err() {
        SwapError::Failed(error) => error,
        SwapError::Conflict { found } => panic!("expected revision {}, found {found}", before.revision),
    }
}

/// As a child has one between its start and the program that it is to be.
#[test]
fn lock_copy_holds_nothing_after_the_release() {
    let folder = tempfile::tempdir().unwrap();
    let holds = || FolderStore::unread(folder.path().into()).lock_folder();
    let lock = holds().unwrap();
    let _copy = lock.0.try_clone().unwrap();
    assert!(holds().is_err());
    drop(lock);
    holds().unwrap();
}

/// A folder that has seen three changes, with the states after the second and the third.
fn folder() -> (TempDir, PathBuf, [Arc<Desired>; 2]) {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("deep/state");
    let (mut store, mut desired) = open(&path);
    assert!(!path.exists());
    let mut states = Vec::new();
    for _ in 0..3 {
        let (next, problem) = save(&mut store, &desired);
        assert_eq!(problem, None);
        desired = next;
        states.push(desired.clone());
    }
    (parent, path, [states[1].clone(), states[2].clone()])
}

fn audited(path: &Path) -> Vec<u64> {
    let lines = fs::read_to_string(path.join("audit.jsonl")).unwrap();
    let revision = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["revision"].as_u64().unwrap();
    lines.lines().map(revision).collect()
}

#[test]
fn saved_state_survives_and_one_server_writes() {
    let (_parent, path, [_, last]) = folder();
    let (mut store, found) = open(&path);
    assert_eq!(found, last);
    assert_eq!(audited(&path), [1, 2, 3]);
    // A second server reads and does not write.
    let (mut second, seen) = open(&path);
    assert_eq!(seen, last);
    let error = refused(&mut second, &seen);
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains(path.to_str().unwrap()) && error.message().contains("in use by another server"));
    assert_eq!(second.claim().unwrap_err(), error);
    assert_eq!(second.load().unwrap(), last);
    // It takes over when the first has gone, with what that has changed.
    let (next, _) = save(&mut store, &last);
    drop(store);
    let conflict = second.compare_and_swap(last.revision, &changed(&last)).unwrap_err();
    assert!(matches!(conflict, SwapError::Conflict { found } if found == next.revision), "{conflict:?}");
    assert_eq!(second.load().unwrap(), next);
    save(&mut second, &next);
    assert_eq!(audited(&path), [1, 2, 3, 4, 5]);
}

/// A log that has become large is renamed, whole, and nothing is written twice.
#[test]
fn large_audit_log_is_rotated() {
    let (_parent, path, [_, last]) = folder();
    let (mut store, _) = open(&path);
    let file = fs::File::options().write(true).open(path.join("audit.jsonl")).unwrap();
    file.set_len((64 << 20) + 1).unwrap();
    let (next, problem) = save(&mut store, &last);
    assert_eq!(problem, None);
    assert_eq!(fs::metadata(path.join("audit-3.jsonl")).unwrap().len(), (64 << 20) + 1);
    assert_eq!(audited(&path), [4]);
    // As a crash between the two leaves it.
    fs::remove_file(path.join("audit.jsonl")).unwrap();
    drop(store);
    assert_eq!(open(&path).1, next);
    assert_eq!(audited(&path), [4]);
}

#[test]
fn standby_follows_and_takes_over() {
    let (_parent, path, [_, last]) = folder();
    let (mut store, _) = open(&path);
    assert_eq!(store.load().unwrap(), last);
    let (mut second, _) = open(&path);
    assert_eq!(second.load().unwrap(), last);
    let (next, _) = save(&mut store, &last);
    assert_eq!(second.load().unwrap(), next);
    assert_eq!(second.load().unwrap(), next);
    let error = refused(&mut second, &next);
    assert!(error.message().contains(&format!("(process {} on ", std::process::id())), "{error}");
    let (after, _) = save(&mut store, &next);
    drop(store);
    assert_eq!(second.load().unwrap(), after);
    save(&mut second, &after);
    assert_eq!(audited(&path), [1, 2, 3, 4, 5, 6]);
}

/// The folder is made before it is locked.
#[test]
fn standby_does_not_preempt_the_first_change() {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("state");
    let (mut first, desired) = open(&path);
    let (mut second, _) = open(&path);
    fs::create_dir(&path).unwrap();
    assert_eq!(second.load().unwrap(), desired);
    let (next, _) = save(&mut first, &desired);
    assert_eq!(second.load().unwrap(), next);
}

/// A state that another server wrote during a change is not overwritten, and the next change is based on it.
#[test]
fn foreign_state_is_adopted_before_the_next_change() {
    let (_other, theirs, [_, last]) = folder();
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("state");
    let (mut store, desired) = open(&path);
    fs::rename(&theirs, &path).unwrap();
    let conflict = store.compare_and_swap(desired.revision, &changed(&desired)).unwrap_err();
    assert!(matches!(conflict, SwapError::Conflict { found } if found == last.revision), "{conflict:?}");
    assert_eq!(store.load().unwrap(), last);
}

/// A folder that was put in the place of the known one may be at the same revision: its state is not overwritten either.
#[test]
fn foreign_state_at_the_same_revision_is_a_conflict() {
    let (_parent, path, [_, last]) = folder();
    let (mut store, _) = open(&path);
    let parent = TempDir::new().unwrap();
    let theirs = parent.path().join("state");
    let mut other = Desired::default();
    other.models.entry("other".into()).or_default();
    let (mut foreign, mut found) = (open(&theirs).0, Arc::new(other));
    while found.revision < last.revision {
        found = save(&mut foreign, &found).0;
    }
    drop(foreign);
    fs::remove_dir_all(&path).unwrap();
    fs::rename(&theirs, &path).unwrap();
    let conflict = store.compare_and_swap(last.revision, &changed(&last)).unwrap_err();
    assert!(matches!(conflict, SwapError::Conflict { found } if found == last.revision), "{conflict:?}");
    assert_eq!(store.load().unwrap(), found);
}

/// Where the folder goes, the known state is not lost.
#[test]
fn removed_state_folder_is_recreated() {
    let (_parent, path, [_, last]) = folder();
    let (mut store, _) = open(&path);
    fs::remove_dir_all(&path).unwrap();
    assert_eq!(store.load().unwrap(), last);
    let (next, _) = save(&mut store, &last);
    drop(store);
    assert_eq!(open(&path).1, next);
}

/// A state that can't be read is no state at all: nothing is written over it.
#[test]
fn state_that_can_not_be_read_is_not_replaced() {
    let (_parent, path, [_, last]) = folder();
    let (current, aside) = (path.join("state.json"), path.join("aside"));
    fs::rename(&current, &aside).unwrap();
    fs::create_dir(&current).unwrap();
    let mut store = FolderStore::open(path.clone()).unwrap();
    for error in [store.load().unwrap_err(), refused(&mut store, &Arc::<Desired>::default())] {
        assert_eq!(error.code(), Code::Unavailable);
        let says = [path.to_str().unwrap(), "holds a state.json that can't be read"];
        assert!(says.iter().all(|part| error.message().contains(part)), "{error}");
    }
    fs::remove_dir(&current).unwrap();
    fs::rename(&aside, &current).unwrap();
    assert_eq!(store.load().unwrap(), last);
    save(&mut store, &last);
}

#[test]
fn damaged_state_file_is_set_aside() {
    let (_parent, path, [before, last]) = folder();
    let current = path.join("state.json");
    let good = fs::read(&current).unwrap();
    let aside = || {
        let names = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("state.damaged-")).collect::<Vec<_>>()
    };
    let cut = (0..good.len()).map(|length| good[..length].to_vec());
    let flipped = (0..good.len()).map(|at| {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        bytes
    });
    for (number, damaged) in cut.chain(flipped).enumerate() {
        // A version of the format that is newer can come of a bit that flips.
        fs::write(&current, &damaged).unwrap();
        let Ok(mut store) = FolderStore::open(path.clone()) else {
            assert!(String::from_utf8_lossy(&damaged).contains("\"version\":"), "{number}");
            continue;
        };
        let found = store.load().unwrap();
        drop(store);
        assert_eq!(found.models, before.models, "{number}");
        assert_eq!(found.revision, last.revision, "the number of the change that was lost is not given again");
        let names = aside();
        assert_eq!(names.len(), 1, "{number}: {names:?}");
        assert_eq!(fs::read(path.join(&names[0])).unwrap(), damaged);
        fs::remove_file(path.join(&names[0])).unwrap();
    }
    // Both: the configurations hold.
    fs::write(&current, "x").unwrap();
    fs::write(path.join("state.previous.json"), "x").unwrap();
    let (_, found) = open(&path);
    assert_eq!((found.models.len(), found.revision), (0, 3));
}

#[test]
fn newer_state_format_is_refused_and_kept() {
    let (_parent, path, _) = folder();
    let current = path.join("state.json");
    let newer = fs::read_to_string(&current).unwrap().replace("\"version\":2", "\"version\":3");
    fs::write(&current, &newer).unwrap();
    let refused = FolderStore::open(path.clone()).unwrap_err();
    assert!(
        refused.contains(path.to_str().unwrap()) && refused.contains("format 3; this one reads up to 2"),
        "{refused}"
    );
    assert_eq!(fs::read_to_string(&current).unwrap(), newer);
}

/// A crash at any step of a change loses at most the change in flight.
#[test]
fn crash_between_steps_loses_no_earlier_change() {
    let (_parent, path, [before, last]) = folder();
    let text = fs::read_to_string(path.join("state.json")).unwrap();
    // Files that were being written.
    fs::write(path.join("state.json.new"), &text[..text.len() / 2]).unwrap();
    fs::write(path.join("state.previous.json.new"), "").unwrap();
    let (store, found) = open(&path);
    assert_eq!(found, last);
    drop(store);
    // The state was replaced, and the audit log does not say so yet, or in part.
    let audit = fs::read_to_string(path.join("audit.jsonl")).unwrap();
    let two: usize = audit.lines().take(2).map(|line| line.len() + 1).sum();
    for length in [0, 1, two - 1, two, two + 7, audit.len() - 1] {
        fs::write(path.join("audit.jsonl"), &audit[..length]).unwrap();
        let (store, found) = open(&path);
        assert_eq!(found, last);
        drop(store);
        assert_eq!(fs::read_to_string(path.join("audit.jsonl")).unwrap(), audit, "cut at {length}");
    }
    // The file that is replaced is missing, though it should not.
    fs::remove_file(path.join("state.json")).unwrap();
    assert_eq!(open(&path).1.models, before.models);
}

/// The state before the last change is what this server wrote, though the file has been changed by another hand meanwhile.
#[test]
fn previous_state_is_the_last_written_one() {
    let (_parent, path, [_, last]) = folder();
    let (mut store, _) = open(&path);
    let previous = || fs::read_to_string(path.join("state.previous.json")).unwrap();
    let text = fs::read_to_string(path.join("state.json")).unwrap();
    let (next, _) = save(&mut store, &last);
    assert_eq!(previous(), text);
    let text = fs::read_to_string(path.join("state.json")).unwrap();
    fs::write(path.join("state.json"), "x").unwrap();
    save(&mut store, &next);
    assert_eq!(previous(), text);
}

#[test]
fn failed_write_changes_nothing() {
    let (_parent, path, [_, last]) = folder();
    let (mut store, _) = open(&path);
    let text = fs::read_to_string(path.join("state.json")).unwrap();
    for (full, saves) in [("state.json.new", false), ("state.previous.json.new", false), ("audit.jsonl", true)] {
        let blocked = path.join(full);
        // By another hand: the file is no longer taken for what was written, and that is written again.
        fs::write(path.join("state.json"), &text).unwrap();
        let kept = fs::read(&blocked).ok();
        let _ = fs::remove_file(&blocked);
        std::os::unix::fs::symlink("/dev/full", &blocked).unwrap();
        let saved = store.compare_and_swap(last.revision, &changed(&last));
        fs::remove_file(&blocked).unwrap();
        if let Some(kept) = kept {
            fs::write(&blocked, kept).unwrap();
        }
        if saves {
            // The change is durable; what the log lacks comes later.
            let problem = saved.unwrap().unwrap();
            assert!(problem.contains("audit.jsonl can't be written") && problem.contains("added later"), "{problem}");
            continue;
        }
        let SwapError::Failed(refused) = saved.unwrap_err() else { panic!("nobody else writes") };
        assert_eq!(refused.code(), Code::Unavailable);
        let says = [path.to_str().unwrap(), "can't be written", "No space left on device"];
        assert!(says.iter().all(|part| refused.message().contains(part)), "{refused}");
        assert_eq!(fs::read_to_string(path.join("state.json")).unwrap(), text);
    }
    save(&mut store, &changed(&last));
    assert_eq!(audited(&path), [1, 2, 3, 4, 5]);
    // Folders that can't be made.
    for place in ["/proc/onnxd/state", "/dev/null/state"] {
        let (mut store, desired) = open(Path::new(place));
        let refused = refused(&mut store, &desired);
        assert!(refused.message().contains(&format!("the state folder {place} can't be made")), "{refused}");
    }
}
