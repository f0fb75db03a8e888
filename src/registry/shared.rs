//! What the registry's thread and admin calls share: the inventory, where it is published, and who is told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::SystemTime,
};
use tokio::sync::broadcast;

use super::{
    control_metrics::metrics,
    inventory::{Inventory, Retired, Standing, Told},
    load_queue::Done,
    losses::Loss,
    plan::{Serving, leaving},
    readiness::readiness,
    status::{Event, Happened, State},
    table::table,
};
use crate::loader::{deaths::Deaths, trials::Trials};
use crate::{
    clock,
    loader::Key,
    metrics::Exposition,
    repository::Repository,
    router::Router,
    state::{Desired, Record, Store},
    traffic::Traffic,
};

/// Events that a watcher may be behind.
const EVENTS: usize = 1024;

/// What wakes the registry's thread.
pub(super) enum Message {
    /// There may be something to do.
    Wake,
    /// Something has changed in the repository.
    Files,
    /// A load has ended.
    Loaded(Box<Done>),
    /// A version that was loaded can serve no more.
    Lost(Box<Loss>),
}

/// See the module.
pub(super) struct Shared {
    pub repository: Repository,
    pub router: Arc<Router>,
    exposition: Arc<Exposition>,
    /// Held over a whole change, so that changes come one after the other; always taken before the inventory.
    pub store: Mutex<Store>,
    /// The deaths of the server that versions are to blame for, where they are remembered.
    pub deaths: Option<Arc<Deaths>>,
    /// The results of trials, where files are tried.
    pub trials: Option<Arc<Trials>>,
    /// Held for moments: nothing is read, written or loaded meanwhile.
    inventory: Mutex<Inventory>,
    events: broadcast::Sender<Event>,
    inbox: mpsc::Sender<Message>,
}

impl Shared {
    pub(super) fn new(
        repository: Repository,
        (router, exposition): (Arc<Router>, Arc<Exposition>),
        store: Store,
        inventory: Inventory,
        inbox: mpsc::Sender<Message>,
    ) -> Self {
        let (store, inventory) = (Mutex::new(store), Mutex::new(inventory));
        let events = broadcast::Sender::new(EVENTS);
        Shared { repository, router, exposition, store, deaths: None, trials: None, inventory, events, inbox }
    }

    pub(super) fn inventory(&self) -> MutexGuard<'_, Inventory> {
        // It is consistent at every point where a panic could happen.
        self.inventory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the registry's thread; one that has ended does not mind.
    pub(super) fn send(&self, message: Message) {
        let _ = self.inbox.send(message);
    }

    pub(super) fn inbox(&self) -> mpsc::Sender<Message> {
        self.inbox.clone()
    }

    /// Hands the router a whole new table, and tells what has changed. `cause` is the change that an admin call has made.
    pub(super) fn publish(&self, inventory: &mut Inventory, cause: Option<&Record>) {
        let standings = inventory.standings();
        let readiness = readiness(inventory, &standings);
        self.router.publish(table(inventory, &standings, readiness));
        self.tell_versions(inventory, standings);
        self.tell_draining(inventory);
        self.tell_traffic(inventory, cause);
        self.exposition.set_control(metrics(inventory));
    }

    fn tell_versions(&self, inventory: &mut Inventory, standings: BTreeMap<Key, Standing>) {
        let (now, revision) = (clock::now(), inventory.desired.revision);
        let mut before = std::mem::take(&mut inventory.told);
        for (key, standing) in standings {
            let told = before.remove(&key);
            let same_life = told.as_ref().filter(|told| {
                (told.standing.state, told.standing.generation) == (standing.state, standing.generation)
            });
            let since = same_life.map_or(now, |told| told.since);
            if told.is_none_or(|told| told.standing != standing) {
                self.tell(event(now, revision, &key, Some(&standing)));
            }
            inventory.told.insert(key, Told { standing, since });
        }
        before.keys().for_each(|key| self.tell(event(now, revision, key, None)));
        inventory.loads.retain(|key, _| inventory.told.contains_key(key));
    }

    /// After the versions: whoever hears of them in order has what answers first.
    fn tell_draining(&self, inventory: &mut Inventory) {
        let now = inventory.draining();
        let before = std::mem::replace(&mut inventory.told_draining, now);
        let revision = inventory.desired.revision;
        for which in inventory.told_draining.difference(&before) {
            self.tell(generation_event(revision, which, Some(State::Retiring)));
        }
        for which in before.difference(&inventory.told_draining) {
            self.tell(generation_event(revision, which, None));
        }
    }

    fn tell_traffic(&self, inventory: &mut Inventory, cause: Option<&Record>) {
        let names = inventory.names().into_iter().cloned();
        let now: BTreeMap<String, Traffic> = names.map(|name| (name.clone(), inventory.traffic(&name))).collect();
        for (model, traffic) in &now {
            // That a model without any settings is there is no news.
            let before = inventory.told_traffic.get(model);
            if before != Some(traffic) && (before.is_some() || *traffic != Traffic::default()) {
                self.tell(traffic_event(inventory.desired.revision, model, traffic, cause));
            }
        }
        inventory.told_traffic = now;
    }

    fn tell(&self, event: Event) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    /// What was told of everything that is there, and what will be.
    pub(super) fn watch(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let inventory = self.inventory();
        let revision = inventory.desired.revision;
        let versions = inventory.told.iter().map(|(key, told)| event(told.since, revision, key, Some(&told.standing)));
        let draining = inventory.told_draining.iter();
        let draining = draining.map(|which| generation_event(revision, which, Some(State::Retiring)));
        let decided = inventory.told_traffic.iter().filter(|(_, traffic)| **traffic != Traffic::default());
        let traffic = decided.map(|(model, traffic)| traffic_event(revision, model, traffic, None));
        (versions.chain(draining).chain(traffic).collect(), self.events.subscribe())
    }

    /// Goes by what another server has written.
    pub(super) fn take_over(&self, store: &Store, desired: Desired) {
        tracing::info!("another server has changed the state, which is taken over: {}", store.folder().display());
        let mut inventory = self.inventory();
        inventory.desired = desired;
        self.unload_leaving(&mut inventory);
        self.publish(&mut inventory, None);
        drop(inventory);
        self.send(Message::Wake);
    }

    /// Unloads what should not be loaded.
    pub(super) fn unload_leaving(&self, inventory: &mut Inventory) {
        leaving(inventory).iter().for_each(|(key, why)| self.unload(inventory, key, why));
    }

    /// Takes a version out of service: it is freed once its last request is answered.
    pub(super) fn unload(&self, inventory: &mut Inventory, key: &Key, why: &str) {
        inventory.awaited.remove(key);
        inventory.anew.remove(key);
        inventory.reloading.remove(key);
        let Some(serving) = inventory.slots.remove(key).and_then(|slot| slot.serving) else { return };
        tracing::info!(model = key.0, version = key.1, "unloaded: {why}");
        let Serving { version, memory } = serving;
        inventory.retired.push(Retired { key: key.clone(), version, memory });
    }

    /// Takes out the versions that no request and no run holds any more, to be freed where nobody waits for that.
    pub(super) fn take_retired(&self) -> Vec<Retired> {
        let mut inventory = self.inventory();
        // A run holds the batcher, also one that nobody waits for, and one that was abandoned.
        let is_free = |retired: &mut Retired| {
            Arc::strong_count(&retired.version) == 1 && Arc::strong_count(&retired.version.batcher) == 1
        };
        let free: Vec<_> = inventory.retired.extract_if(.., is_free).collect();
        if !free.is_empty() {
            self.publish(&mut inventory, None);
        }
        free
    }
}

fn event(time: SystemTime, revision: u64, (model, version): &Key, standing: Option<&Standing>) -> Event {
    let what = Happened::Version {
        version: *version,
        state: standing.map(|standing| -> State { standing.state }),
        generation: standing.and_then(|standing| standing.generation),
        reason: standing.and_then(|standing| standing.reason.clone()),
    };
    Event { time, revision, model: model.clone(), what }
}

fn generation_event(revision: u64, ((model, version), generation): &(Key, u64), state: Option<State>) -> Event {
    let what = Happened::Generation { version: *version, generation: *generation, state };
    Event { time: clock::now(), revision, model: model.clone(), what }
}

fn traffic_event(revision: u64, model: &str, traffic: &Traffic, cause: Option<&Record>) -> Event {
    let (actor, reason) = cause.map(|record| (record.actor.clone(), record.reason.clone())).unwrap_or_default();
    let what = Happened::Traffic { traffic: traffic.clone(), actor, reason };
    Event { time: clock::now(), revision, model: model.to_owned(), what }
}
