//! Loads, aside: they are started one after the other, and what comes of them is taken.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use super::{
    Progress, Registry, TRIM_PAUSE,
    inventory::{Inventory, Retired},
    memory::{Room, room},
    plan::{Held, Plan, Retry, Serving, Slot, WEIGHTS_DELAY, plan},
    shared::Message,
};
use crate::{
    batcher::LoadWatch,
    error::Failure,
    host::priority,
    loader::{Key, Loaded, Wanted},
    router::Version,
};

/// How long a load lets what serves go first.
const PATIENCE: Duration = Duration::from_secs(60);

/// A load that has gone on for so long does not keep others from being started.
const LONG_LOAD: Duration = Duration::from_secs(5);

/// Loads that go on for long at most, beside those that were just started: each takes memory and CPU time.
const MAX_LONG_LOADS: usize = 8;

/// A load that goes on.
pub(super) struct Going {
    key: Key,
    wanted: Wanted,
    generation: u64,
    began: Instant,
    /// When it no longer steps aside.
    promote_at: Option<Instant>,
    watch: Arc<LoadWatch>,
}

/// A load that has ended.
pub(super) struct Done {
    pub generation: u64,
    pub key: Key,
    pub wanted: Wanted,
    pub loaded: Result<Loaded, Failure>,
}

impl Registry {
    /// Finds out what is to be done, and does what can be done at once.
    pub(super) fn reconcile(&mut self) {
        let mut inventory = self.shared.inventory();
        let now = Instant::now();
        let plan = plan(&inventory, &self.anew, now);
        if !inventory.started {
            let found: Vec<String> = inventory.names().into_iter().cloned().collect();
            inventory.counted.extend(found);
            inventory.started = true;
        }
        for (key, why) in &plan.unload {
            self.shared.unload(&mut inventory, key, why);
        }
        let loads = |key: &Key| plan.load.iter().any(|(loaded, _)| loaded == key);
        for (_, slot) in inventory.slots.iter_mut().filter(|(key, _)| !loads(key)) {
            slot.held.take_if(|held| held.until <= now);
        }
        for (key, wanted) in plan.hold {
            hold_back(&mut inventory, key, wanted, now);
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
            let now = Instant::now();
            let young = self.going.iter().filter(|load| !load.is_long(now)).count();
            if young >= at_once || self.going.len() >= at_once + MAX_LONG_LOADS {
                return;
            }
            let mut inventory = self.shared.inventory();
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
            if let Some(slot) = inventory.slots.get_mut(&key) {
                slot.held = None;
            }
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
        let (generation, _) = self.begin(&key, &wanted, None);
        self.shared.send(Message::Loaded(Box::new(Done { generation, key, wanted, loaded: Err(failure) })));
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

    /// Registers a load that begins.
    fn begin(&mut self, key: &Key, wanted: &Wanted, promote_at: Option<Instant>) -> (u64, Arc<LoadWatch>) {
        let generation = self.next_generation;
        self.next_generation += 1;
        let inbox = self.shared.inbox();
        let watch = Arc::new(LoadWatch::new(move || drop(inbox.send(Message::Wake))));
        let (key, wanted, began) = (key.clone(), wanted.clone(), Instant::now());
        self.going.push(Going { key, wanted, generation, began, promote_at, watch: watch.clone() });
        (generation, watch)
    }

    fn start_load(&mut self, key: Key, wanted: Wanted, aside: bool) {
        let (model, version, path) = (&key.0, key.1, wanted.source.path.display());
        tracing::info!(model, version, %path, "loading");
        let (generation, watch) = self.begin(&key, &wanted, aside.then(|| Instant::now() + PATIENCE));
        let (loader, inbox) = (self.loader.clone(), self.shared.inbox());
        let (thread_key, thread_wanted) = (key.clone(), wanted.clone());
        let load = move || {
            let (key, wanted) = (thread_key, thread_wanted);
            if aside {
                priority::step_aside();
            }
            // A panic would be a defect, here or in a library; it must cost this version only.
            let loaded = catch_unwind(AssertUnwindSafe(|| loader.load(&key, generation, &wanted, watch)));
            let panicked = |_| Err(Failure::lasting("loading it panicked: this is a defect of the server"));
            let loaded = loaded.unwrap_or_else(panicked);
            // Before anything serves.
            priority::restore();
            let _ = inbox.send(Message::Loaded(Box::new(Done { generation, key, wanted, loaded })));
        };
        if let Err(error) = thread::Builder::new().name("load".into()).spawn(load) {
            let loaded = Err(Failure::passing(format!("no thread can be started for it: {error}")));
            self.shared.send(Message::Loaded(Box::new(Done { generation, key, wanted, loaded })));
        }
    }

    /// Takes the result of a load: a good one serves once that is published; after a bad one goes on serving what served.
    pub(super) fn settle_load(&mut self, done: Done, progress: &dyn Fn(Progress<'_>)) {
        let Done { generation, key, wanted, loaded } = done;
        let Some(index) = self.going.iter().position(|load| load.generation == generation) else {
            return self.free_given_up(generation);
        };
        self.going.swap_remove(index);
        let mut inventory = self.shared.inventory();
        inventory.loading.remove(&key);
        // Unless a call has asked again since this load began.
        if !self.anew.contains(&key) && !inventory.anew.contains(&key) {
            inventory.reloading.remove(&key);
        }
        // An admin call may have unloaded it meanwhile.
        if inventory.slots.contains_key(&key) {
            match loaded {
                Ok(loaded) => {
                    self.report_loss_of(&key, &loaded.version);
                    self.taken.push(take(&mut inventory, &key, wanted, loaded));
                }
                Err(failure) => self.refused.extend(refuse(&mut inventory, &key, wanted, failure)),
            }
        }
        drop(inventory);
        progress(Progress::Done { model: &key.0, version: key.1 });
    }
}

impl Registry {
    /// Gives up the loads that take too long, and those with a run that can't be stopped. Their threads go on, and what comes of
    /// them is dropped. True where there is one.
    pub(super) fn give_up_overdue(&mut self, now: Instant, progress: &dyn Fn(Progress<'_>)) -> bool {
        let limit = self.load_timeout;
        let overdue = |load: &Going| load.watch.is_stuck() || now.saturating_duration_since(load.began) >= limit;
        let given_up: Vec<Done> =
            self.going.iter().filter(|load| overdue(load)).map(|load| load.give_up(limit)).collect();
        let is_any = !given_up.is_empty();
        for done in given_up {
            let memory = done.wanted.memory();
            self.shared.inventory().given_up.insert(done.generation, memory);
            self.settle_load(done, progress);
        }
        is_any
    }

    /// Stops the runs of all loads.
    pub(super) fn stop_loads(&self) {
        self.going.iter().for_each(|load| load.watch.give_up());
    }

    /// When something is to be done about a load that goes on, though nothing has happened.
    pub(super) fn next_of_loads(&self) -> Option<Instant> {
        let waits = !self.queue.is_empty();
        let next = |load: &Going| {
            let is_long = (load.began + LONG_LOAD, waits && !load.is_long(Instant::now()));
            let overdue = (load.began + self.load_timeout, true);
            let promoted = load.promote_at.map(|at| (at, true));
            let all = [Some(is_long), Some(overdue), promoted].into_iter().flatten();
            all.filter(|(_, matters)| *matters).map(|(at, _)| at).min()
        };
        self.going.iter().filter_map(next).min()
    }

    /// Has loads that have taken long step aside no longer: beside enough requests they would never end. True where there is
    /// one.
    pub(super) fn promote(&mut self, now: Instant) -> bool {
        let due = self.going.iter_mut().filter_map(|load| load.promote_at.take_if(|at| *at <= now));
        let takes_long = due.count() > 0;
        if takes_long {
            priority::restore_all();
        }
        takes_long
    }

    /// Frees what came of a load that was given up.
    fn free_given_up(&mut self, generation: u64) {
        let memory = self.shared.inventory().given_up.remove(&generation);
        self.freed += memory.unwrap_or(0);
        self.trim_at.get_or_insert(Instant::now() + TRIM_PAUSE);
    }
}

impl Going {
    fn is_long(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= LONG_LOAD
    }

    fn give_up(&self, limit: Duration) -> Done {
        self.watch.give_up();
        let why = if self.watch.is_stuck() {
            "a run of it did not end when it was stopped at max_run_time; its thread was abandoned".into()
        } else {
            format!("it did not load within {limit:?} (--load-timeout); its thread was abandoned")
        };
        let loaded = Err(Failure::lasting(why).at(&self.wanted.source.path));
        Done { generation: self.generation, key: self.key.clone(), wanted: self.wanted.clone(), loaded }
    }
}

/// Has a load wait for the weights that its model file names.
fn hold_back(inventory: &mut Inventory, (model, version): Key, wanted: Wanted, now: Instant) {
    tracing::info!(
        model,
        version,
        "the model file has changed and its weights have not: they are waited for ({WEIGHTS_DELAY:?}), and what is loaded goes on \
         serving; `onnxd reload` does not wait"
    );
    if let Some(slot) = inventory.slots.get_mut(&(model, version)) {
        slot.held = Some(Held { wanted, until: now + WEIGHTS_DELAY });
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
    let losses = inventory.slots.get(key).and_then(|slot| slot.losses_of(&wanted));
    let slot = Slot { serving: Some(serving), losses, ..Slot::new(wanted) };
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
    (slot.failure, slot.is_lost) = (Some(why.into()), false);
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
        isolation = derived.isolation_text(),
        seconds = version.load_time.as_secs_f64(),
        "ready"
    );
}
