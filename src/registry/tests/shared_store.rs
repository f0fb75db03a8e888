//! Registries whose store other servers change too.

use std::{
    fmt::{self, Display},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};
use tempfile::TempDir;

use super::{RunningRegistry, TEST_TIMEOUT, add_version, registry};
use crate::{
    config::ModelControl,
    error::{Code, Error, Result},
    registry::message::Message,
    state::{Change, ChangeContext, Desired, OnChange, Store, SwapError, memory_store::MemoryStore},
    traffic::Selector,
};

/// The store reports the change; nothing polls here.
#[test]
fn change_of_another_server_is_taken_over_when_the_store_reports_it() {
    let (repository, store) = (TempDir::new().unwrap(), MemoryStore::default());
    (1..=2).for_each(|version| add_version(repository.path(), version));
    let first = RunningRegistry::start_with(repository.path(), store.clone(), ModelControl::Poll);
    let mut second = registry(repository.path(), store, ModelControl::Poll);
    first.change(Change::Promote(1)).unwrap();
    let control = second.control();
    let picked = || control.router.table().shown("m", &Selector::Any).map(|version| version.version);
    assert_eq!((control.revision(), picked()), (0, Ok(2)));
    while control.revision() == 0 {
        let message = second.inbox.recv_timeout(TEST_TIMEOUT).unwrap();
        second.receive(message, &|_| ());
    }
    assert_eq!((control.revision(), picked()), (1, Ok(1)));
    let history = control.history("m").unwrap();
    assert_eq!(
        history.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["revision 1: promote version 1 by ann (because)"]
    );
}

/// A store that other servers change just before this one does, so many times.
struct ContendedStore {
    store: MemoryStore,
    foreign_changes: u64,
}

impl Store for ContendedStore {
    fn load(&mut self) -> Result<Arc<Desired>> {
        self.store.load()
    }

    fn claim(&mut self) -> Result<()> {
        self.store.claim()
    }

    fn compare_and_swap(&mut self, expected: u64, next: &Arc<Desired>) -> Result<Option<String>, SwapError> {
        if self.foreign_changes > 0 {
            self.foreign_changes -= 1;
            let mut desired = Desired::clone(&*self.load()?);
            desired.revision += 1;
            self.store.compare_and_swap(expected, &Arc::new(desired))?;
        }
        self.store.compare_and_swap(expected, next)
    }

    fn watch(&mut self, on_change: OnChange) {
        self.store.watch(on_change);
    }
}

impl Display for ContendedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

/// A store that can't be read for a while.
struct UnreadableStore {
    store: MemoryStore,
    is_readable: Arc<AtomicBool>,
}

impl Store for UnreadableStore {
    fn load(&mut self) -> Result<Arc<Desired>> {
        let why = || Error::new(Code::Unavailable, "the disk is gone");
        if self.is_readable.load(Relaxed) { self.store.load() } else { Err(why()) }
    }

    fn claim(&mut self) -> Result<()> {
        self.load().map(drop)
    }

    fn compare_and_swap(&mut self, expected: u64, next: &Arc<Desired>) -> Result<Option<String>, SwapError> {
        self.store.compare_and_swap(expected, next)
    }

    fn watch(&mut self, on_change: OnChange) {
        self.store.watch(on_change);
    }
}

impl Display for UnreadableStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

/// Nothing is changed meanwhile: a change would be judged by a state that is not the one that holds.
#[test]
fn unreadable_state_is_taken_over_once_it_can_be_read() {
    let (repository, store) = (TempDir::new().unwrap(), MemoryStore::default());
    (1..=2).for_each(|version| add_version(repository.path(), version));
    RunningRegistry::start_with(repository.path(), store.clone(), ModelControl::Poll)
        .change(Change::Promote(1))
        .unwrap();
    let is_readable = Arc::new(AtomicBool::new(false));
    let store = UnreadableStore { store, is_readable: is_readable.clone() };
    let mut registry = registry(repository.path(), store, ModelControl::Poll);
    let control = registry.control();
    registry.receive(Message::StateChanged, &|_| ());
    assert_eq!(control.revision(), 0);
    let refused = control.change("m", |_| Ok(Change::Promote(2)), ChangeContext::default()).unwrap_err();
    assert!(refused.message().contains("nothing was changed: the disk is gone"), "{refused}");
    is_readable.store(true, Relaxed);
    registry.receive(Message::StateChanged, &|_| ());
    assert_eq!(control.revision(), 1);
    assert_eq!(control.history("m").unwrap().len(), 1);
}

#[test]
fn overtaken_change_is_judged_again_and_not_for_ever() {
    let repository = TempDir::new().unwrap();
    (1..=2).for_each(|version| add_version(repository.path(), version));
    for foreign_changes in [0, 7, 8] {
        let store = ContendedStore { store: MemoryStore::default(), foreign_changes };
        let control = registry(repository.path(), store, ModelControl::Poll).control();
        match control.change("m", |_| Ok(Change::Promote(1)), ChangeContext::default()) {
            Ok(changed) => {
                assert_eq!((changed.revision, control.revision()), (foreign_changes + 1, foreign_changes + 1))
            }
            Err(refused) => {
                assert_eq!((refused.code(), foreign_changes), (Code::Unavailable, 8), "{refused}");
                let says =
                    "the state in memory has been changed by other servers 8 times meanwhile, and is at revision 8";
                assert!(refused.message().contains(says), "{refused}");
                assert!(control.history("m").unwrap().is_empty());
            }
        }
    }
}

/// A change that another one has overtaken is judged again by the state with that.
#[test]
fn servers_that_change_a_shared_state_at_once_lose_no_change() {
    const CHANGES: u64 = 7;
    let (repository, store) = (TempDir::new().unwrap(), MemoryStore::default());
    (1..=2).for_each(|version| add_version(repository.path(), version));
    let servers = [(); 2].map(|()| RunningRegistry::start_with(repository.path(), store.clone(), ModelControl::Poll));
    thread::scope(|scope| {
        for (server, version) in servers.iter().zip(1..) {
            scope.spawn(move || (0..CHANGES).for_each(|_| drop(server.change(Change::Promote(version)).unwrap())));
        }
    });
    for server in &servers {
        server.eventually("it has every change", || server.control.revision() == 2 * CHANGES);
        let history = server.control.history("m").unwrap();
        let revisions: Vec<u64> = history.iter().map(|record| record.revision).collect();
        assert_eq!(revisions, (1..=2 * CHANGES).collect::<Vec<_>>());
    }
    assert_eq!(servers[0].picked(), servers[1].picked());
    // Neither knows of a change that the other has made: it is judged by the state with it.
    let stale = ChangeContext { expected_revision: Some(1), ..ChangeContext::default() };
    servers[0].change(Change::Promote(1)).unwrap();
    let refused = servers[1].control.change("m", |_| Ok(Change::Promote(2)), stale).unwrap_err();
    assert_eq!(refused.code(), Code::Aborted);
    assert!(refused.message().contains(&format!("revision {}: promote version 1", 2 * CHANGES + 1)), "{refused}");
}
