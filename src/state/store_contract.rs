//! The contract of a store, which every implementation keeps.

use std::{
    sync::{Arc, Barrier, mpsc},
    thread,
    time::Duration,
};
use tempfile::TempDir;

use super::{
    Desired,
    folder_store::FolderStore,
    memory_store::MemoryStore,
    store::{Store, SwapError},
    tests::changed,
};

const EVENT_TIMEOUT: Duration = Duration::from_secs(60);

/// An implementation, over one state.
struct Implementation<'a> {
    /// Opens the store as one more server.
    open: &'a (dyn Fn() -> Box<dyn Store> + Sync),
    /// True if it reports the changes of other servers; otherwise they are found by loading the state.
    reports_changes: bool,
}

fn on_each(test: impl Fn(&Implementation<'_>)) {
    let memory = MemoryStore::default();
    let open = || -> Box<dyn Store> { Box::new(memory.clone()) };
    test(&Implementation { open: &open, reports_changes: true });
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("state");
    let open = || -> Box<dyn Store> { Box::new(FolderStore::open(path.clone()).unwrap()) };
    test(&Implementation { open: &open, reports_changes: false });
}

#[test]
fn swap_at_another_revision_is_a_conflict_that_names_it() {
    on_each(|Implementation { open, .. }| {
        let mut store = open();
        assert_eq!(store.load().unwrap(), Arc::<Desired>::default());
        let first = changed(&Arc::<Desired>::default());
        store.compare_and_swap(0, &first).unwrap();
        for expected in [0, 2, u64::MAX] {
            let conflict = store.compare_and_swap(expected, &changed(&first)).unwrap_err();
            assert!(matches!(conflict, SwapError::Conflict { found: 1 }), "{store}: {conflict:?}");
            assert_eq!(store.load().unwrap(), first, "{store}");
        }
        let second = changed(&first);
        store.compare_and_swap(1, &second).unwrap();
        assert_eq!(store.load().unwrap(), second, "{store}");
    });
}

/// The server that wrote it may have been killed: nothing that it does afterwards is needed.
#[test]
fn acknowledged_state_is_there_for_the_next_server() {
    on_each(|Implementation { open, .. }| {
        let mut store = open();
        let mut desired = Arc::<Desired>::default();
        for _ in 0..3 {
            let next = changed(&desired);
            store.compare_and_swap(desired.revision, &next).unwrap();
            assert_eq!(open().load().unwrap(), next, "{store}");
            desired = next;
        }
        drop(store);
        assert_eq!(open().load().unwrap(), desired);
    });
}

#[test]
fn change_of_another_server_is_reported_and_loaded() {
    on_each(|Implementation { open, reports_changes }| {
        let (mut writer, mut reader) = (open(), open());
        let (sender, events) = mpsc::channel();
        reader.watch(Box::new(move || {
            let _ = sender.send(());
        }));
        let mut desired = Arc::<Desired>::default();
        for _ in 0..3 {
            let next = changed(&desired);
            writer.compare_and_swap(desired.revision, &next).unwrap();
            if *reports_changes {
                events.recv_timeout(EVENT_TIMEOUT).unwrap();
            }
            assert!(events.try_recv().is_err(), "{reader}: one event for a change");
            assert_eq!(reader.load().unwrap(), next, "{reader}");
            desired = next;
        }
    });
}

#[test]
fn revision_goes_to_one_of_two_writers() {
    on_each(|Implementation { open, .. }| {
        for expected in 0..20 {
            let both_have_loaded = Barrier::new(2);
            let write = || {
                let mut store = open();
                let next = changed(&store.load().unwrap());
                both_have_loaded.wait();
                store.compare_and_swap(expected, &next).is_ok()
            };
            let won = thread::scope(|scope| {
                let other = scope.spawn(write);
                [write(), other.join().unwrap()]
            });
            assert_eq!(won.iter().filter(|won| **won).count(), 1, "{}: revision {expected}", open());
            assert_eq!(open().load().unwrap().revision, expected + 1);
        }
    });
}
