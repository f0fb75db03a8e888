//! The reconciler: a pure function from the repository, the desired state, the lifecycles and the time to the actions that bring
//! them in line.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{
    generation::Generation,
    inventory::{Inventory, RegistryPhase},
    lifecycle::{Lifecycle, WaitReason},
    previous::LoadVerdict,
    room::{MemoryLimit, MemoryUse, Room, room},
    running_load::RunningLoad,
    wanted::{leaving, wanted},
};
use crate::{
    config::ModelControl,
    loader::{LoadRequest, VersionKey},
};

/// Time for which a changed model file waits for a change of its weights.
pub(super) const WEIGHTS_TIMEOUT: Duration = Duration::from_secs(20);

/// Time for which a load yields to what serves. Beside enough requests it would never end otherwise.
const MAX_YIELD_TIME: Duration = Duration::from_secs(60);

/// Loads that may take long beside those that were just started: each takes memory and CPU time.
const MAX_LONG_LOADS: usize = 8;

/// Time between two tables while the first loads run: each table costs as much as there are models.
const START_PUBLISH_INTERVAL: Duration = Duration::from_millis(100);

/// Limits of loads.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoadLimits {
    /// Loads at once while nothing serves yet.
    pub loads_at_start: usize,
    /// Memory of all versions together.
    pub memory: Option<MemoryLimit>,
    /// Time after which a load is given up.
    pub load_timeout: Duration,
}

/// A step of the registry's thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Take a version out of service and forget it; the reason, for people.
    Retire(VersionKey, &'static str),
    /// Have a load wait for its turn.
    Queue(VersionKey, LoadRequest),
    /// Have a load wait for the weights that its model file names.
    Hold(VersionKey, LoadRequest, Instant),
    /// Let a load wait no longer: nothing is to be loaded now.
    Release(VersionKey),
    /// Begin the load that waits for its turn.
    Load {
        /// The version.
        key: VersionKey,
        /// The time when the load stops to yield to what serves; `None`: it does not yield.
        promote_at: Option<Instant>,
    },
    /// Take the generation that serves out of service, so that there is room for the load that waits.
    MakeRoom(VersionKey),
    /// Fail the load that waits for its turn: there is no memory for it; the reason, for people.
    Refuse(VersionKey, String),
    /// Wait for a load no longer.
    GiveUp {
        /// The version.
        key: VersionKey,
        /// The number of the generation that the load makes.
        generation: u64,
        /// True if a run of it was stopped and does not end.
        is_stuck: bool,
    },
    /// Have loads that have taken long yield no longer.
    Promote,
    /// Publish a table.
    Publish,
}

/// The next actions. They are to be carried out in order, and then there may be more, until there are none.
pub(super) fn reconcile<G: Generation>(inventory: &Inventory<G>, limits: &LoadLimits, now: Instant) -> Vec<Action> {
    let mut actions = Vec::new();
    if inventory.is_unplanned && inventory.phase != RegistryPhase::Starting {
        plan(inventory, now, &mut actions);
    }
    running_loads(inventory, limits, now, &mut actions);
    next_loads(inventory, limits, now, &mut actions);
    if actions.is_empty() && publish_at(inventory, now).is_some_and(|at| at <= now) {
        actions.push(Action::Publish);
    }
    actions
}

/// The next time when there is something to do though nothing has happened.
pub(super) fn next_due<G: Generation>(inventory: &Inventory<G>, limits: &LoadLimits, now: Instant) -> Option<Instant> {
    // Retries that are due wait for the next scan.
    let retries = inventory.versions.values().filter_map(|tracked| tracked.lifecycle.due_at());
    let queues = inventory.versions.values().any(|tracked| tracked.lifecycle.next().is_some());
    let of_load = |load: &RunningLoad| {
        let long = Some(load.long_at()).filter(|_| queues);
        [Some(load.began + limits.load_timeout), long, load.promote_at].into_iter().flatten()
    };
    let loads = inventory.running_loads().flat_map(|(_, load)| of_load(load));
    retries.chain(loads).filter(|at| *at > now).chain(publish_at(inventory, now)).min()
}

/// The time when a table is to be published.
fn publish_at<G>(inventory: &Inventory<G>, now: Instant) -> Option<Instant> {
    let pause = if inventory.phase == RegistryPhase::Starting { START_PUBLISH_INTERVAL } else { Duration::ZERO };
    inventory.is_unpublished.then(|| inventory.published_at.map_or(now, |at| at + pause))
}

/// The difference between the versions that should be loaded and those that are. A model whose folder can't be read completely
/// loads nothing.
fn plan<G: Generation>(inventory: &Inventory<G>, now: Instant, actions: &mut Vec<Action>) {
    let leaving = leaving(inventory);
    let mut settled: BTreeSet<VersionKey> = leaving.iter().map(|(key, _)| key.clone()).collect();
    actions.extend(leaving.into_iter().map(|(key, why)| Action::Retire(key, why)));
    let follows = inventory.control == ModelControl::Poll;
    for (name, model) in inventory.models.iter().filter(|(_, model)| model.problem.is_none()) {
        let config = model.config.for_load();
        let chosen = wanted(inventory, name, model);
        for (version, source) in &model.versions {
            let key = (name.clone(), *version);
            if settled.contains(&key) {
                continue;
            }
            let request = LoadRequest { source: source.clone(), config: config.clone() };
            let is_chosen = chosen.contains(version);
            let verdict = match inventory.lifecycle(&key) {
                None if is_chosen => LoadVerdict::Load,
                Some(lifecycle) if is_chosen || !follows || lifecycle.is_called() => {
                    lifecycle.verdict(&request, inventory.scanned_at, follows)
                }
                _ => LoadVerdict::Rest,
            };
            let reason = match inventory.lifecycle(&key) {
                Some(Lifecycle::Waiting { reason, .. }) => Some(reason),
                _ => None,
            };
            match (verdict, reason) {
                (LoadVerdict::Load, Some(WaitReason::Turn { request: next, .. })) if *next == request => {}
                (LoadVerdict::AwaitWeights, Some(WaitReason::Weights { request: held, .. })) if *held == request => {}
                (LoadVerdict::Load, _) => actions.push(Action::Queue(key.clone(), request)),
                (LoadVerdict::AwaitWeights, _) => {
                    actions.push(Action::Hold(key.clone(), request, now + WEIGHTS_TIMEOUT));
                }
                (LoadVerdict::Rest, Some(WaitReason::Turn { .. } | WaitReason::Weights { .. })) => {
                    actions.push(Action::Release(key.clone()));
                }
                (LoadVerdict::Rest, _) => {}
            }
            settled.insert(key);
        }
    }
    // Loads that wait, and whose files can't be loaded now.
    for (key, tracked) in inventory.versions.iter().filter(|(key, _)| !settled.contains(key)) {
        let is_released = match &tracked.lifecycle {
            Lifecycle::Waiting { reason: WaitReason::Turn { .. }, .. } => true,
            Lifecycle::Waiting { reason: WaitReason::Weights { until, .. }, .. } => {
                inventory.scanned_at.is_some_and(|scanned_at| *until <= scanned_at)
            }
            _ => false,
        };
        if is_released {
            actions.push(Action::Release(key.clone()));
        }
    }
}

/// Loads that run: those that take too long or are stuck are given up, and those that have taken long yield no longer.
fn running_loads<G: Generation>(
    inventory: &Inventory<G>,
    limits: &LoadLimits,
    now: Instant,
    actions: &mut Vec<Action>,
) {
    let mut is_promoted = false;
    for (key, load) in inventory.running_loads() {
        if load.is_stuck || now.saturating_duration_since(load.began) >= limits.load_timeout {
            let (key, generation, is_stuck) = (key.clone(), load.generation, load.is_stuck);
            actions.push(Action::GiveUp { key, generation, is_stuck });
        }
        is_promoted |= load.promote_at.is_some_and(|at| at <= now);
    }
    if is_promoted {
        actions.push(Action::Promote);
    }
}

/// The loads that wait for their turn and may begin, by the order of their names.
fn next_loads<G: Generation>(inventory: &Inventory<G>, limits: &LoadLimits, now: Instant, actions: &mut Vec<Action>) {
    if inventory.is_stopping || !actions.is_empty() {
        return;
    }
    let at_once = if inventory.phase == RegistryPhase::Following { 1 } else { limits.loads_at_start };
    let young = inventory.running_loads().filter(|(_, load)| !load.is_long(now)).count();
    let all = inventory.running_loads().count();
    let mut free = at_once.saturating_sub(young).min((at_once + MAX_LONG_LOADS).saturating_sub(all));
    let mut memory = limits.memory.map(|_| MemoryUse::of(inventory)).unwrap_or_default();
    // At the start there is nothing that a load could be in the way of.
    let yields = at_once == 1 && inventory.all_serving().next().is_some();
    let promote_at = yields.then(|| now + MAX_YIELD_TIME);
    for (key, tracked) in &inventory.versions {
        if free == 0 {
            return;
        }
        let Some(request) = tracked.lifecycle.next() else { continue };
        if !tracked.leftovers.unwanted.is_empty() {
            continue;
        }
        let before = tracked.lifecycle.serving().map(Generation::memory);
        match room(limits.memory, memory, before, request) {
            Room::Free => {
                actions.push(Action::Load { key: key.clone(), promote_at });
                memory.taken += request.memory();
                free -= 1;
            }
            Room::Soon => return,
            Room::Instead => return actions.push(Action::MakeRoom(key.clone())),
            Room::None(why) => actions.push(Action::Refuse(key.clone(), why)),
        }
    }
}
