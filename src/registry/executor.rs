//! Executes the actions of the reconciler: starts loads, publishes tables, frees generations.

use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use super::{
    generation::Generation,
    load_log::{LoadLog, log_loss},
    load_thread::start_load,
    memory_trim::MemoryTrim,
    message::{GenerationLoss, LoadEnd, Message},
    reconcile::{Action, LoadLimits, WEIGHTS_TIMEOUT, next_due, reconcile},
    shared::SharedState,
    transitions::EndedLoad,
};
use crate::{
    batcher::LoadWatch,
    error::Failure,
    host::priority,
    loader::{Loader, VersionKey},
    router::Version,
};

/// Progress of the first loads.
#[derive(Debug)]
pub enum LoadProgress<'a> {
    /// So many versions are going to be loaded.
    Begin(usize),
    /// The load of this version has ended, well or not.
    Done {
        /// The model.
        model: &'a str,
        /// The version.
        version: u64,
    },
    /// All loads have ended.
    End,
}

/// Observer of the progress.
pub(super) type OnProgress<'a> = &'a dyn Fn(LoadProgress<'_>);

/// Executes the actions of the reconciler.
pub(super) struct Executor {
    shared: Arc<SharedState>,
    loader: Loader,
    pub(super) limits: LoadLimits,
    /// Log lines of loads whose results are not published yet.
    unlogged: Vec<LoadLog>,
    trim: MemoryTrim,
}

impl Executor {
    pub(super) fn new(shared: Arc<SharedState>, loader: Loader, limits: LoadLimits) -> Self {
        Executor { shared, loader, limits, unlogged: Vec::new(), trim: MemoryTrim::default() }
    }

    /// Makes the first plan. The number of versions that are going to be loaded is returned.
    pub(super) fn start(&mut self, on_progress: OnProgress<'_>) -> usize {
        let now = Instant::now();
        let actions = reconcile(&self.shared.inventory(), &self.limits, now);
        actions.into_iter().for_each(|action| self.execute(action, now, on_progress));
        let mut inventory = self.shared.inventory();
        inventory.started();
        inventory.versions.values().filter(|tracked| tracked.lifecycle.next().is_some()).count()
    }

    /// Brings the registry in line with the repository and the desired state, as far as that can be done now.
    pub(super) fn reconcile(&mut self, on_progress: OnProgress<'_>) {
        loop {
            let (mut inventory, now) = (self.shared.inventory(), Instant::now());
            let actions = reconcile(&inventory, &self.limits, now);
            if actions.is_empty() {
                inventory.rest();
                let is_published = !inventory.is_unpublished;
                drop(inventory);
                // The log says what clients can see.
                if is_published {
                    self.unlogged.drain(..).for_each(|line| line.write());
                }
                return;
            }
            drop(inventory);
            actions.into_iter().for_each(|action| self.execute(action, now, on_progress));
        }
    }

    /// Publishes what is not published yet.
    pub(super) fn publish(&mut self) {
        let mut inventory = self.shared.inventory();
        if inventory.is_unpublished {
            self.shared.publish(&mut inventory, None);
        }
        drop(inventory);
        self.unlogged.drain(..).for_each(|line| line.write());
    }

    pub(super) fn execute(&mut self, action: Action, now: Instant, on_progress: OnProgress<'_>) {
        let shared = self.shared.clone();
        match action {
            Action::Retire(key, why) => shared.unload(&mut shared.inventory(), &key, why),
            Action::Queue(key, request) => shared.inventory().queue(&key, request),
            Action::Hold(key, request, until) => {
                let (model, version) = (&key.0, key.1);
                tracing::info!(
                    model,
                    version,
                    limit = ?WEIGHTS_TIMEOUT,
                    hint = "`onnxd reload` does not wait",
                    "model file changed, waiting for its weights, current generation serves"
                );
                shared.inventory().hold(&key, request, until);
            }
            Action::Release(key) => shared.inventory().release(&key),
            Action::Load { key, promote_at } => self.begin_load(&key, promote_at, now),
            Action::MakeRoom(key) => self.make_room(&key, now, on_progress),
            Action::Refuse(key, why) => self.refuse(&key, Failure::passing(why), now, on_progress),
            Action::GiveUp { key, generation, is_stuck } => {
                self.give_up((&key, generation), is_stuck, now, on_progress)
            }
            Action::Promote => {
                shared.inventory().loads_promoted(now);
                priority::restore_all();
            }
            Action::Publish => shared.publish(&mut shared.inventory(), None),
        }
    }

    fn begin_load(&self, key: &VersionKey, promote_at: Option<Instant>, now: Instant) {
        let watch = |generation| {
            let (key, inbox) = (key.clone(), self.shared.inbox());
            Arc::new(LoadWatch::new(move || drop(inbox.send(Message::LoadStuck(key.clone(), generation)))))
        };
        let mut inventory = self.shared.inventory();
        // An admin call may have unloaded it meanwhile.
        let Some(load) = inventory.begin_load(key, promote_at, watch, now) else { return };
        drop(inventory);
        start_load(&self.loader, key, load, promote_at.is_some(), self.shared.inbox());
    }

    fn make_room(&mut self, key: &VersionKey, now: Instant, on_progress: OnProgress<'_>) {
        let request = self.shared.inventory().lifecycle(key).and_then(|lifecycle| lifecycle.next().cloned());
        let Some(request) = request else { return };
        // A generation that serves does not go for a file that is no model at all.
        if let Err(failure) = request.source.inspect() {
            return self.refuse(key, failure, now, on_progress);
        }
        tracing::warn!(model = key.0, version = key.1, "version unloaded first, no room beside its successor");
        self.shared.inventory().make_room(key);
    }

    fn refuse(&mut self, key: &VersionKey, failure: Failure, now: Instant, on_progress: OnProgress<'_>) {
        let failed = self.shared.inventory().refused(key, failure, now);
        self.unlogged.extend(failed.map(|failed| LoadLog::Failed(key.clone(), failed)));
        on_progress(LoadProgress::Done { model: &key.0, version: key.1 });
    }

    fn give_up(
        &mut self,
        (key, generation): (&VersionKey, u64),
        is_stuck: bool,
        now: Instant,
        on_progress: OnProgress<'_>,
    ) {
        let mut inventory = self.shared.inventory();
        let load = inventory
            .versions
            .get(key)
            .and_then(|tracked| tracked.running_loads().find(|load| load.generation == generation));
        let Some(load) = load else { return };
        let why = if is_stuck {
            "a run of it did not end when it was stopped at max_run_time; its thread was abandoned".into()
        } else {
            format!("it did not load within {:?} (--load-timeout); its thread was abandoned", self.limits.load_timeout)
        };
        let failure = Failure::lasting(why).at(&load.request.source.path);
        let failed = inventory.load_given_up(key, generation, failure, now);
        drop(inventory);
        self.unlogged.extend(failed.map(|failed| LoadLog::Failed(key.clone(), failed)));
        on_progress(LoadProgress::Done { model: &key.0, version: key.1 });
    }

    /// Applies a message to the inventory. True if a load has ended.
    pub(super) fn receive(&mut self, message: Message, on_progress: OnProgress<'_>) -> bool {
        match message {
            Message::Wake | Message::FilesChanged | Message::StateChanged => false,
            Message::LoadStuck(key, generation) => {
                self.shared.inventory().load_stuck(&key, generation);
                false
            }
            Message::Lost(loss) => {
                self.lost(*loss);
                false
            }
            Message::LoadEnded(end) => {
                self.load_ended(*end, on_progress);
                true
            }
        }
    }

    /// Takes a lost version out of service. Its requests go where those of a version that failed to load go.
    fn lost(&self, GenerationLoss { key, generation, lost }: GenerationLoss) {
        let mut inventory = self.shared.inventory();
        if let Some(failure) = inventory.lost(&key, generation, lost, Instant::now()) {
            log_loss(&key, generation, &failure);
            self.shared.publish(&mut inventory, None);
        }
    }

    fn load_ended(&mut self, LoadEnd { key, generation, result, warnings }: LoadEnd, on_progress: OnProgress<'_>) {
        let version = result.as_ref().ok().map(|loaded| loaded.version.clone());
        if let Some(version) = &version {
            report_losses(version.clone(), &key, self.shared.inbox());
        }
        let ended = self.shared.inventory().load_ended(&key, generation, result, Instant::now());
        let done = LoadProgress::Done { model: &key.0, version: key.1 };
        match ended {
            EndedLoad::Settled(outcome) => {
                for warning in warnings {
                    tracing::warn!(model = key.0, version = key.1, warning, "version loaded with a warning");
                }
                self.unlogged.extend(LoadLog::of(key.clone(), outcome, version));
                on_progress(done);
            }
            EndedLoad::Dropped { result, memory, is_given_up } => {
                drop((result, version));
                self.trim.freed(memory, Instant::now());
                if !is_given_up {
                    on_progress(done);
                }
            }
            EndedLoad::Unknown => {}
        }
    }

    /// Frees the generations that nothing holds any more.
    pub(super) fn free_idle(&mut self, now: Instant) {
        let mut inventory = self.shared.inventory();
        let idle = inventory.take_idle();
        if !idle.is_empty() {
            self.shared.publish(&mut inventory, None);
        }
        drop(inventory);
        for generation in idle {
            self.trim.freed(generation.memory(), now);
        }
        if self.trim.take_due(now) {
            priority::trim_memory();
        }
    }

    /// Begins no more loads, and stops the runs of those that run.
    pub(super) fn stop_loads(&self) {
        let mut inventory = self.shared.inventory();
        inventory.is_stopping = true;
        inventory.running_loads().for_each(|(_, load)| load.watch.give_up());
    }

    pub(super) fn is_loading(&self) -> bool {
        self.shared.inventory().running_loads().next().is_some()
    }

    /// Ends the process that tries files, once no load is left.
    pub(super) fn end_trials(&self) {
        let inventory = self.shared.inventory();
        let queues = inventory.versions.values().any(|tracked| tracked.lifecycle.next().is_some());
        let is_loading = inventory.running_loads().next().is_some();
        drop(inventory);
        if !queues && !is_loading {
            self.loader.end_trials();
        }
    }

    /// The time for which there is nothing to do but wait, unless a message comes.
    pub(super) fn wait(&self, most: Duration, drain_interval: Duration) -> Duration {
        let (inventory, now) = (self.shared.inventory(), Instant::now());
        let next = next_due(&inventory, &self.limits, now).into_iter().chain(self.trim.due_at()).min();
        let wait = next.map_or(most, |next| next.saturating_duration_since(now).min(most));
        if inventory.drains() { wait.min(drain_interval) } else { wait }
    }
}

/// Has the batcher of a generation report its loss.
fn report_losses(version: Arc<Version>, key: &VersionKey, inbox: mpsc::Sender<Message>) {
    let (key, generation) = (key.clone(), version.generation);
    version.batcher.on_lost(move |lost| {
        let loss = GenerationLoss { key: key.clone(), generation, lost: lost.clone() };
        let _ = inbox.send(Message::Lost(loss.into()));
    });
}
