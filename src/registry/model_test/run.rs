//! Execution of events and actions on the world of the model test.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    mem,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::{prelude::*, test_runner::TestCaseError};

use super::{
    fake::{FILE_BYTES, FakeGeneration, LoadThread, is_no_model},
    op::{LoadResult, Operation},
    world::{CheckResult, LOAD_TIMEOUT, LOADS_AT_START, World},
};
use crate::{
    batcher::LoadWatch,
    config::ModelControl,
    error::{Failure, Lost},
    loader::{LoadRequest, VersionKey},
    registry::{
        generation::Generation,
        inventory::RegistryPhase,
        reconcile::{Action, next_due, reconcile},
        running_load::LONG_LOAD,
        settle::{only, settle},
        status::VersionState,
        transitions::EndedLoad,
        wanted::leaving,
    },
    repository::RepositoryModel,
    state::Change,
    traffic::{STABLE, Traffic},
};

const POLL_INTERVAL: Duration = Duration::from_secs(10);
const SETTLE_INTERVAL: Duration = Duration::from_secs(1);
const MAX_LONG_LOADS: usize = 8;

impl World {
    /// The first scan and the first plan.
    pub(super) fn start(&mut self) -> CheckResult {
        self.last_scan = self.read_repository();
        self.adopt(self.last_scan.clone(), |_| true);
        for action in reconcile(&self.inventory, &self.limits, self.now) {
            self.execute(action)?;
        }
        self.inventory.started();
        self.drive()
    }

    fn scan(&mut self) -> bool {
        let awaiting = self.inventory.awaiting_scan(self.now);
        let follows = self.inventory.control != ModelControl::None;
        if awaiting.is_empty() && !follows || self.inventory.phase != RegistryPhase::Following {
            return false;
        }
        let current = self.read_repository();
        let before = mem::replace(&mut self.last_scan, current);
        let stays = |name: &str| {
            let is_asked_for = self.inventory.is_asked_for(name) || !self.folders.contains_key(name);
            is_asked_for && self.inventory.serves(name)
        };
        let mut models = settle(&self.inventory.models, &before, &self.last_scan, stays);
        if !follows {
            models = only(&self.inventory.models, models, |model| awaiting.iter().any(|(name, _)| name == model));
        }
        let agreed: BTreeSet<VersionKey> =
            awaiting.into_iter().filter(|(name, _)| before.get(name) == self.last_scan.get(name)).collect();
        self.adopt(models, |key| agreed.contains(key));
        before != self.last_scan
    }

    fn adopt(&mut self, models: BTreeMap<String, RepositoryModel>, is_settled: impl Fn(&VersionKey) -> bool) {
        let mut found = BTreeMap::new();
        for (name, model) in models.iter().filter(|(_, model)| model.problem.is_none()) {
            for (version, source) in &model.versions {
                let request = LoadRequest { source: source.clone(), config: model.config.for_load() };
                found.insert((name.clone(), *version), request);
            }
        }
        self.reference.found(found, self.now);
        self.inventory.scanned(models, is_settled, self.now);
    }

    /// A change of the repository; everything else is left out.
    pub(super) fn change_files(&mut self, op: Operation) {
        match op {
            Operation::PutFiles((name, version), file, weights) => {
                self.folders.entry(name).or_default().versions.insert(version, (file, weights));
            }
            Operation::RemoveFiles((name, version)) => {
                self.folders.get_mut(&name).map(|folder| folder.versions.remove(&version));
            }
            Operation::RemoveModel(name) => drop(self.folders.remove(&name)),
            Operation::SetProblem(name, has_problem) => {
                self.folders.entry(name).or_default().has_problem = has_problem;
            }
            Operation::SetIncomplete((name, version), true) => {
                self.folders.entry(name).or_default().incomplete.insert(version);
            }
            Operation::SetIncomplete((name, version), false) => {
                self.folders.entry(name).or_default().incomplete.remove(&version);
            }
            Operation::SetLatest(name, is_latest) => self.folders.entry(name).or_default().is_latest = is_latest,
            _ => {}
        }
    }

    pub(super) fn apply(&mut self, op: Operation) -> CheckResult {
        match op {
            Operation::PutFiles(..)
            | Operation::RemoveFiles(_)
            | Operation::RemoveModel(_)
            | Operation::SetProblem(..)
            | Operation::SetIncomplete(..)
            | Operation::SetLatest(..) => self.change_files(op),
            Operation::Scan => drop(self.scan()),
            Operation::Load(key) => self.call(&key.0, Change::Load(Some(key.1)))?,
            Operation::LoadAll(name) => self.call(&name, Change::Load(None))?,
            Operation::Unload(key) => self.call(&key.0, Change::ForceUnload(Some(key.1)))?,
            Operation::Reload(key) => self.call(&key.0, Change::Reload(Some(key.1)))?,
            Operation::SetStable((name, version)) => {
                let mut desired = self.inventory.desired.clone();
                let aliases = BTreeMap::from([(STABLE.to_owned(), version)]);
                Arc::make_mut(&mut desired).models.entry(name).or_default().traffic =
                    Some(Traffic { aliases, ..Traffic::default() });
                self.inventory.set_desired(desired);
                self.after_call()?;
            }
            Operation::LoadEnds(index, result) if !self.threads.is_empty() => {
                self.load_ends(index % self.threads.len(), result)?;
            }
            Operation::LoadSticks(index) if !self.threads.is_empty() => {
                let thread = &self.threads[index % self.threads.len()];
                self.inventory.load_stuck(&thread.key.clone(), thread.generation);
            }
            Operation::LoadEnds(..) | Operation::LoadSticks(_) => {}
            Operation::Lose(key, is_final) => self.lose(&key, is_final)?,
            Operation::LoseOften(key) => {
                for _ in 0..6 {
                    self.lose(&key, false)?;
                    self.apply(Operation::Wait(Duration::from_secs(20)))?;
                    self.apply(Operation::Scan)?;
                    self.apply(Operation::Scan)?;
                    let thread = self.threads.iter().position(|thread| thread.key == key);
                    if let Some(index) = thread {
                        self.apply(Operation::LoadEnds(index, LoadResult::Success))?;
                    }
                }
            }
            Operation::HoldRequest(key) => {
                if let Some(serving) = self.inventory.serving(&key) {
                    serving.is_held.set(true);
                    self.holds.push(serving.is_held.clone());
                }
            }
            Operation::EndRequests => self.holds.drain(..).for_each(|held| held.set(false)),
            Operation::FreeIdle => {
                if !self.inventory.take_idle().is_empty() {
                    self.publish()?;
                }
            }
            Operation::Wait(time) => self.now += time,
            Operation::Stop => self.inventory.is_stopping = true,
        }
        self.drive()
    }

    /// An admin call, as far as it is accepted.
    fn call(&mut self, name: &str, change: Change) -> CheckResult {
        let on_disk: BTreeSet<u64> =
            self.read_repository().get(name).into_iter().flat_map(|model| model.versions.keys().copied()).collect();
        let mut desired = self.inventory.desired.clone();
        let state = Arc::make_mut(&mut desired).models.entry(name.to_owned()).or_default();
        match change {
            Change::Load(Some(version)) if !on_disk.contains(&version) => return Ok(()),
            Change::Load(None) if on_disk.is_empty() => return Ok(()),
            Change::Load(version) => {
                let versions = version.map_or_else(|| on_disk.clone(), |version| BTreeSet::from([version]));
                for version in versions {
                    state.loaded.insert(version, true);
                    let key = (name.to_owned(), version);
                    let serves = self.inventory.serving(&key).is_some();
                    if !serves {
                        self.reference.called(&key, serves);
                    }
                }
            }
            Change::ForceUnload(Some(version)) => drop(state.loaded.insert(version, false)),
            Change::Reload(Some(version)) => {
                let key = (name.to_owned(), version);
                if self.inventory.lifecycle(&key).is_none() || !on_disk.contains(&version) {
                    return Ok(());
                }
                self.reference.called(&key, self.inventory.serving(&key).is_some());
            }
            _ => {}
        }
        self.inventory.set_desired(desired);
        self.inventory.called(name, &change, &on_disk);
        self.after_call()
    }

    fn after_call(&mut self) -> CheckResult {
        for (key, why) in leaving(&self.inventory) {
            self.execute(Action::Retire(key, why))?;
        }
        self.publish()
    }

    fn load_ends(&mut self, index: usize, result: LoadResult) -> CheckResult {
        let thread = self.threads.swap_remove(index);
        let LoadThread { key, generation, request, is_given_up, .. } = thread;
        let before = self.inventory.serving(&key).map(FakeGeneration::number);
        let result = match result {
            // A model test: what is no model never loads.
            LoadResult::Success if !is_no_model(&request) => {
                let is_held = Rc::new(Cell::new(false));
                self.held.insert(generation, is_held.clone());
                self.loaded.insert(generation);
                Ok(FakeGeneration { number: generation, memory: request.memory(), is_held, freed: self.freed.clone() })
            }
            LoadResult::Success | LoadResult::Lasting => Err(Failure::lasting("it is no model")),
            LoadResult::Passing => Err(Failure::passing("there is no memory now")),
        };
        let failure = result.as_ref().err().cloned();
        let is_wanted = !is_given_up
            && self
                .inventory
                .lifecycle(&key)
                .and_then(|lifecycle| lifecycle.load())
                .is_some_and(|load| load.generation == generation);
        let ended = self.inventory.load_ended(&key, generation, result, self.now);
        let after = self.inventory.serving(&key).map(FakeGeneration::number);
        match (ended, failure) {
            (EndedLoad::Settled(_), None) => {
                prop_assert!(is_wanted);
                prop_assert_eq!(after, Some(generation), "a version that is loaded serves");
                self.check_drains(&key, before)?;
                self.reference.succeeded(&key, &request);
            }
            (EndedLoad::Settled(_), Some(failure)) => {
                prop_assert!(is_wanted);
                prop_assert_eq!(after, before, "a failed load takes down nothing");
                self.reference.failed(&key, &request, failure.may_pass, self.now);
            }
            (EndedLoad::Dropped { result, memory, is_given_up: dropped_late }, _) => {
                prop_assert!(!is_wanted);
                prop_assert_eq!((after, memory, dropped_late), (before, request.memory(), is_given_up));
                drop(result);
            }
            (EndedLoad::Unknown, _) => prop_assert!(false, "a load is forgotten: {:?}", key),
        }
        Ok(())
    }

    fn lose(&mut self, key: &VersionKey, is_final: bool) -> CheckResult {
        let Some(generation) = self.inventory.serving(key).map(FakeGeneration::number) else { return Ok(()) };
        let lost = if is_final { Lost::for_good("it broke") } else { Lost::for_now("it broke") };
        prop_assert!(self.inventory.lost(key, generation + 1000, lost.clone(), self.now).is_none());
        let failure = self.inventory.lost(key, generation, lost, self.now);
        prop_assert!(failure.is_some() && self.inventory.serving(key).is_none(), "a lost version is out of service");
        self.check_drains(key, Some(generation))?;
        let standing = self.inventory.standings().remove(key);
        let is_shown = standing.is_some_and(|standing| {
            standing.state == VersionState::Failed && standing.reason.is_some_and(|reason| reason.contains("it broke"))
        });
        prop_assert!(is_shown, "the loss of {:?} is not shown", key);
        self.reference.lost(key, is_final, self.now);
        self.publish()
    }

    /// Carries out actions until there are none.
    fn drive(&mut self) -> CheckResult {
        for _ in 0..20 {
            let actions = reconcile(&self.inventory, &self.limits, self.now);
            if actions.is_empty() {
                self.inventory.rest();
                if self.inventory.phase == RegistryPhase::Starting && self.inventory.running_loads().next().is_none() {
                    self.inventory.phase = RegistryPhase::Following;
                    self.publish()?;
                    continue;
                }
                return self.check();
            }
            for action in actions {
                self.execute(action)?;
            }
        }
        Err(TestCaseError::fail("the actions don't come to an end"))
    }

    fn execute(&mut self, action: Action) -> CheckResult {
        match action {
            Action::Retire(key, why) => {
                self.check_retire(&key, why)?;
                let serving = self.inventory.serving(&key).map(FakeGeneration::number);
                prop_assert_eq!(self.inventory.unload(&key), serving.is_some());
                self.check_drains(&key, serving)?;
                self.reference.unloaded(&key);
            }
            Action::Queue(key, request) => self.inventory.queue(&key, request),
            Action::Hold(key, request, until) => self.inventory.hold(&key, request, until),
            Action::Release(key) => self.inventory.release(&key),
            Action::Load { key, promote_at } => self.begin_load(&key, promote_at)?,
            Action::MakeRoom(key) => {
                let request = self.inventory.lifecycle(&key).and_then(|lifecycle| lifecycle.next().cloned());
                let request = request.ok_or_else(|| TestCaseError::fail("room for nothing"))?;
                prop_assert!(self.limits.memory.is_some_and(|limit| limit.unload_first));
                if is_no_model(&request) {
                    return self.refuse(&key, &request, Failure::lasting("it is no model"));
                }
                let serving = self.inventory.serving(&key).map(FakeGeneration::number);
                prop_assert!(serving.is_some());
                self.inventory.make_room(&key);
                self.check_drains(&key, serving)?;
                self.reference.made_room(&key);
            }
            Action::Refuse(key, why) => {
                let request = self.inventory.lifecycle(&key).and_then(|lifecycle| lifecycle.next().cloned());
                let request = request.ok_or_else(|| TestCaseError::fail("nothing is refused"))?;
                self.refuse(&key, &request, Failure::passing(why))?;
            }
            Action::GiveUp { key, generation, is_stuck } => {
                let thread = self.threads.iter_mut().find(|thread| thread.generation == generation);
                let thread = thread.ok_or_else(|| TestCaseError::fail("a load is given up that has ended"))?;
                prop_assert!(!thread.is_given_up && (is_stuck || self.now >= thread.began + LOAD_TIMEOUT));
                thread.is_given_up = true;
                let request = thread.request.clone();
                let before = self.inventory.serving(&key).map(FakeGeneration::number);
                if self.inventory.load_given_up(&key, generation, Failure::lasting("late"), self.now).is_some() {
                    self.reference.failed(&key, &request, false, self.now);
                }
                let after = self.inventory.serving(&key).map(FakeGeneration::number);
                prop_assert_eq!(after, before, "a load that is given up takes down nothing");
            }
            Action::Promote => self.inventory.loads_promoted(self.now),
            Action::Publish => self.publish()?,
        }
        Ok(())
    }

    fn refuse(&mut self, key: &VersionKey, request: &LoadRequest, failure: Failure) -> CheckResult {
        let before = self.inventory.serving(key).map(FakeGeneration::number);
        let may_pass = failure.may_pass;
        prop_assert!(self.inventory.refused(key, failure, self.now).is_some());
        prop_assert_eq!(self.inventory.serving(key).map(FakeGeneration::number), before);
        self.reference.failed(key, request, may_pass, self.now);
        // The attempt that was asked for has been made.
        self.reference.answered(key);
        Ok(())
    }

    fn begin_load(&mut self, key: &VersionKey, promote_at: Option<Instant>) -> CheckResult {
        prop_assert!(!self.inventory.is_stopping, "nothing begins once the server stops");
        let is_loading = self.threads.iter().any(|thread| thread.key == *key && !thread.is_given_up);
        prop_assert!(!is_loading, "{:?} is loaded twice at once", key);
        let young = |thread: &&LoadThread| !thread.is_given_up && self.now < thread.began + LONG_LOAD;
        let at_once = if self.inventory.phase == RegistryPhase::Following { 1 } else { LOADS_AT_START };
        prop_assert!(self.threads.iter().filter(young).count() < at_once, "too many loads at once");
        let all = self.threads.iter().filter(|thread| !thread.is_given_up).count();
        prop_assert!(all < at_once + MAX_LONG_LOADS, "too many long loads at once");
        let watch = |_| Arc::new(LoadWatch::new(|| ()));
        let serves = self.inventory.serving(key).is_some();
        let load = self.inventory.begin_load(key, promote_at, watch, self.now);
        let load = load.ok_or_else(|| TestCaseError::fail("a load begins that was not next"))?;
        if let Some(limit) = self.limits.memory {
            let held = (self.loaded.len() - self.freed.borrow().len()) as u64 * 2 * FILE_BYTES;
            let all =
                held + self.threads.iter().map(|thread| thread.request.memory()).sum::<u64>() + load.request.memory();
            prop_assert!(all <= limit.bytes.0 as u64, "{} bytes are more than the limit", all);
        }
        let follows = self.inventory.control == ModelControl::Poll;
        self.reference.begins(key, &load.request, follows, serves, self.now).map_err(TestCaseError::fail)?;
        let (key, began) = (key.clone(), self.now);
        let thread = LoadThread { key, generation: load.generation, request: load.request, began, is_given_up: false };
        self.threads.push(thread);
        Ok(())
    }

    /// The world comes to rest: files change no more, every load ends, and the clock runs as the registry's thread has it.
    pub(super) fn come_to_rest(&mut self) -> CheckResult {
        self.holds.drain(..).for_each(|held| held.set(false));
        let (mut is_unsettled, mut quiet_scans) = (true, 0);
        for _ in 0..60 {
            while !self.threads.is_empty() {
                self.apply(Operation::LoadEnds(0, LoadResult::Success))?;
            }
            self.apply(Operation::FreeIdle)?;
            let pause =
                if is_unsettled || self.inventory.awaits_scan(self.now) { SETTLE_INTERVAL } else { POLL_INTERVAL };
            let due = next_due(&self.inventory, &self.limits, self.now);
            if due.is_none() && quiet_scans > 2 {
                break;
            }
            self.now = due.map_or(self.now + pause, |due| due.max(self.now + pause));
            is_unsettled = self.scan();
            quiet_scans = if is_unsettled { 0 } else { quiet_scans + 1 };
            self.drive()?;
        }
        if self.inventory.is_stopping {
            return Ok(());
        }
        self.check_rest()
    }
}
