//! Loads, aside: they are started one after the other, and what comes of them is taken.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use super::{
    Loaded, Progress, Registry,
    inventory::{Inventory, Retired},
    memory::{Room, room},
    plan::{Key, Plan, Retry, Serving, Slot, Wanted, plan},
    shared::Message,
    system,
};
use crate::{error::Failure, router::Version};

/// How long a load lets what serves go first.
const PATIENCE: Duration = Duration::from_secs(60);

/// A load that has ended.
pub(super) struct Done {
    pub key: Key,
    pub wanted: Wanted,
    pub loaded: Result<Loaded, Failure>,
}

impl Registry {
    /// Finds out what is to be done, and does what can be done at once.
    pub(super) fn reconcile(&mut self) {
        let mut inventory = self.shared.inventory();
        let plan = plan(&inventory, &self.anew, Instant::now());
        inventory.started = true;
        for (key, why) in &plan.unload {
            self.shared.unload(&mut inventory, key, why);
        }
        for (key, wanted) in &plan.load {
            inventory.slots.entry(key.clone()).or_insert_with(|| Slot::new(wanted.clone()));
        }
        drop(inventory);
        self.publish();
        self.queue = plan.load.into();
    }

    /// The same, where there is something to be done: what admin calls ask for may need versions that are not loaded.
    pub(super) fn act(&mut self) {
        if plan(&self.shared.inventory(), &self.anew, Instant::now()) != Plan::default() {
            self.reconcile();
        }
    }

    /// Starts as many loads as may go on at once.
    pub(super) fn start_loads(&mut self, at_once: usize) {
        while !self.stop.load(Relaxed) {
            let mut inventory = self.shared.inventory();
            if inventory.loading.len() >= at_once {
                return;
            }
            let Some((key, wanted)) = self.queue.pop_front() else { return };
            // An admin call may have unloaded it meanwhile.
            if !inventory.slots.contains_key(&key) || inventory.loading.contains_key(&key) {
                continue;
            }
            match room(self.memory, &inventory, &key, &wanted) {
                Room::Free => {}
                Room::Soon => return self.queue.push_front((key, wanted)),
                Room::Instead => {
                    drop(inventory);
                    // What serves does not go for what is no model at all.
                    if let Err(failure) = wanted.source.inspect() {
                        self.fail(key, wanted, failure);
                        continue;
                    }
                    self.make_room(&key);
                    return self.queue.push_front((key, wanted));
                }
                Room::None(why) => {
                    drop(inventory);
                    self.fail(key, wanted, Failure::passing(why));
                    continue;
                }
            }
            inventory.loading.insert(key.clone(), wanted.memory());
            // At the start there is nothing that it could be in the way of.
            let aside = inventory.slots.values().any(|slot| slot.serving.is_some()) && at_once == 1;
            drop(inventory);
            self.anew.remove(&key);
            self.start_load(key, wanted, aside);
        }
    }

    /// Ends a load before it begins.
    fn fail(&mut self, key: Key, wanted: Wanted, failure: Failure) {
        self.shared.inventory().loading.insert(key.clone(), 0);
        self.anew.remove(&key);
        self.shared.send(Message::Loaded(Box::new(Done { key, wanted, loaded: Err(failure) })));
    }

    /// Takes the generation before out of service, so that there is room for the next.
    fn make_room(&self, key: &Key) {
        let mut inventory = self.shared.inventory();
        let Some(Serving { version, memory }) = inventory.slots.get_mut(key).and_then(|slot| slot.serving.take())
        else {
            return;
        };
        tracing::warn!(model = key.0, version = key.1, "unloaded first: there is no room for it and its successor");
        inventory.retired.push(Retired { key: key.clone(), version, memory });
        self.shared.publish(&mut inventory, None);
    }

    fn start_load(&mut self, key: Key, wanted: Wanted, aside: bool) {
        let generation = self.next_generation;
        self.next_generation += 1;
        let (loader, inbox) = (self.loader.clone(), self.shared.inbox());
        let (thread_key, thread_wanted) = (key.clone(), wanted.clone());
        let load = move || {
            let (key, wanted) = (thread_key, thread_wanted);
            if aside {
                system::step_aside();
            }
            // A panic would be a defect, here or in a library; it must cost this version only.
            let loaded = catch_unwind(AssertUnwindSafe(|| loader.load(&key, generation, &wanted)));
            let panicked = |_| Err(Failure::lasting("loading it panicked: this is a defect of the server"));
            let loaded = loaded.unwrap_or_else(panicked);
            // Before anything serves.
            system::restore();
            let _ = inbox.send(Message::Loaded(Box::new(Done { key, wanted, loaded })));
        };
        self.promote_at = aside.then(|| Instant::now() + PATIENCE);
        if let Err(error) = thread::Builder::new().name("load".into()).spawn(load) {
            let loaded = Err(Failure::passing(format!("no thread can be started for it: {error}")));
            self.shared.send(Message::Loaded(Box::new(Done { key, wanted, loaded })));
        }
    }

    /// Takes the result of a load: a good one serves once that is published; after a bad one goes on serving what served.
    pub(super) fn settle_load(&mut self, Done { key, wanted, loaded }: Done, progress: &dyn Fn(Progress<'_>)) {
        let mut inventory = self.shared.inventory();
        inventory.loading.remove(&key);
        // Unless a call has asked again since this load began.
        if !self.anew.contains(&key) && !inventory.anew.contains(&key) {
            inventory.reloading.remove(&key);
        }
        // An admin call may have unloaded it meanwhile.
        if inventory.slots.contains_key(&key) {
            match loaded {
                Ok(loaded) => self.taken.push(take(&mut inventory, &key, wanted, loaded)),
                Err(failure) => self.refused.extend(refuse(&mut inventory, &key, wanted, failure)),
            }
        }
        drop(inventory);
        progress(Progress::Done { model: &key.0, version: key.1 });
    }
}

fn take(inventory: &mut Inventory, key: &Key, wanted: Wanted, loaded: Loaded) -> Arc<Version> {
    for warning in loaded.warnings() {
        tracing::warn!(model = key.0, version = key.1, "{warning}");
    }
    let warm_up = loaded.warm_up.as_secs_f64();
    let memory = loaded.weights_on_host;
    let version = Arc::new(loaded.version);
    let serving = Serving { version: version.clone(), memory };
    let slot = Slot { serving: Some(serving), ..Slot::new(wanted) };
    let before = inventory.slots.insert(key.clone(), slot).and_then(|slot| slot.serving);
    let loads = inventory.loads.entry(key.clone()).or_default();
    loads.succeeded += 1;
    loads.swaps += u64::from(before.is_some());
    loads.seconds = Some(((version.load_time.as_secs_f64() - warm_up).max(0.0), warm_up));
    if let Some(Serving { version, memory }) = before {
        inventory.retired.push(Retired { key: key.clone(), version, memory });
    }
    version
}

/// A load that failed, for the log.
pub(super) struct Refused {
    key: Key,
    message: String,
    /// What fails in the same way again and again is told once.
    is_told: bool,
}

fn refuse(inventory: &mut Inventory, key: &Key, wanted: Wanted, Failure { why, may_pass }: Failure) -> Option<Refused> {
    inventory.loads.entry(key.clone()).or_default().failed += 1;
    let slot = inventory.slots.get_mut(key)?;
    let before = slot.retry.take().filter(|_| slot.attempted == wanted);
    slot.attempted = wanted;
    slot.retry = may_pass.then(|| Retry::after(before, Instant::now()));
    let what = match &slot.serving {
        Some(_) => "not reloaded, the one before goes on serving",
        None => "not loaded",
    };
    let is_told = before.is_some() && slot.failure.as_deref() == Some(&why);
    let next = if may_pass { "; it is tried again, now and then" } else { "" };
    let message = format!("{what}: {why}{next}");
    slot.failure = Some(why.into());
    Some(Refused { key: key.clone(), message, is_told })
}

pub(super) fn say_refused(Refused { key: (model, version), message, is_told }: &Refused) {
    if *is_told {
        tracing::debug!(model, version, "again {message}");
    } else {
        tracing::error!(model, version, "{message}");
    }
}

/// For the log.
pub(super) fn say_ready(version: &Version) {
    let derived = &version.derived;
    tracing::info!(
        model = &*version.model,
        version = version.version,
        generation = version.generation,
        batching = derived.batching_text(),
        device = derived.devices_text(),
        instances = derived.instances,
        intra_op_threads = derived.intra_op_threads,
        in_place = derived.in_place_text(),
        seconds = version.load_time.as_secs_f64(),
        "ready"
    );
}
