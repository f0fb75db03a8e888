//! State that the registry's thread and admin calls share, and its publication into the router.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::Instant,
};
use tokio::sync::broadcast;

use super::{
    control_metrics::metrics, generation::LoadedVersion, inventory::Inventory, message::Message, readiness::readiness,
    status::Event, table::table, wanted::leaving,
};
use crate::{
    error::Result,
    loader::{Deaths, Trials, VersionKey},
    metrics::Exposition,
    repository::Repository,
    router::Router,
    state::{Record, Store},
};

/// Events that a watcher may be behind.
const MAX_EVENTS_BEHIND: usize = 1024;

/// State that the registry's thread and admin calls share.
pub(super) struct SharedState {
    pub repository: Repository,
    pub router: Arc<Router>,
    exposition: Arc<Exposition>,
    /// Held over a whole change, so that changes come one after the other; always taken before the inventory.
    pub store: Mutex<Box<dyn Store>>,
    /// The deaths of the server that versions are to blame for, where they are remembered.
    pub deaths: Option<Arc<Deaths>>,
    /// The results of trials, where files are tried.
    pub trials: Option<Arc<Trials>>,
    /// Held for moments: nothing is read, written or loaded meanwhile.
    inventory: Mutex<Inventory<LoadedVersion>>,
    events: broadcast::Sender<Event>,
    inbox: mpsc::Sender<Message>,
}

impl SharedState {
    pub(super) fn new(
        repository: Repository,
        (router, exposition): (Arc<Router>, Arc<Exposition>),
        store: Box<dyn Store>,
        inventory: Inventory<LoadedVersion>,
        inbox: mpsc::Sender<Message>,
    ) -> Self {
        let (store, inventory) = (Mutex::new(store), Mutex::new(inventory));
        let events = broadcast::Sender::new(MAX_EVENTS_BEHIND);
        SharedState { repository, router, exposition, store, deaths: None, trials: None, inventory, events, inbox }
    }

    pub(super) fn inventory(&self) -> MutexGuard<'_, Inventory<LoadedVersion>> {
        // It is consistent at every point where a panic could happen.
        self.inventory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a message to the registry's thread, unless that has ended.
    pub(super) fn send(&self, message: Message) {
        let _ = self.inbox.send(message);
    }

    pub(super) fn inbox(&self) -> mpsc::Sender<Message> {
        self.inbox.clone()
    }

    /// Publishes a whole new table, and sends the events that lead to it. `cause`: the change that an admin call has made.
    pub(super) fn publish(&self, inventory: &mut Inventory<LoadedVersion>, cause: Option<&Record>) {
        let standings = inventory.standings();
        let readiness = readiness(inventory, &standings);
        self.router.publish(table(inventory, &standings, readiness));
        for event in inventory.announce(standings, cause) {
            // There may be no watcher.
            let _ = self.events.send(event);
        }
        self.exposition.set_control(metrics(inventory));
        inventory.published(Instant::now());
    }

    /// The last events of everything that exists, and a receiver of the next ones.
    pub(super) fn watch(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let inventory = self.inventory();
        (inventory.last_events(), self.events.subscribe())
    }

    /// Takes over the state of the store where another server has changed it.
    ///
    /// # Errors
    /// The state can't be read: what was known holds.
    pub(super) fn catch_up(&self, store: &mut dyn Store) -> Result<()> {
        let desired = store.load()?;
        let mut inventory = self.inventory();
        // A store that has nothing new gives what it gave before: nothing is compared then.
        if Arc::ptr_eq(&desired, &inventory.desired) || desired == inventory.desired {
            return Ok(());
        }
        tracing::info!(%store, revision = desired.revision, "state of another server taken over");
        inventory.set_desired(desired);
        self.unload_leaving(&mut inventory);
        self.publish(&mut inventory, None);
        drop(inventory);
        self.send(Message::Wake);
        Ok(())
    }

    /// Unloads the versions that should not be loaded.
    pub(super) fn unload_leaving(&self, inventory: &mut Inventory<LoadedVersion>) {
        leaving(inventory).iter().for_each(|(key, why)| self.unload(inventory, key, why));
    }

    /// Takes a version out of service: it is freed once its last request is answered.
    pub(super) fn unload(&self, inventory: &mut Inventory<LoadedVersion>, key: &VersionKey, why: &str) {
        if inventory.unload(key) {
            tracing::info!(model = key.0, version = key.1, reason = why, "version unloaded");
        }
    }
}
