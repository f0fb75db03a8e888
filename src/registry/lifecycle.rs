//! Lifecycle of one version: its states, with their data inside, and the transitions between them. Pure: time is an argument.

use std::{mem, time::Instant};

use super::{
    backoff::Losses,
    generation::Generation,
    leftovers::Leftovers,
    previous::{Failed, FailedLoad, LoadFailure, LoadVerdict, Previous, Ready},
    running_load::RunningLoad,
};
use crate::{
    error::{Failure, Lost},
    loader::LoadRequest,
};

/// Lifecycle of a version: at most one load of it is wanted at any time.
#[derive(Debug)]
pub(super) enum Lifecycle<G> {
    /// A load is to begin, and has not begun yet.
    Waiting {
        /// The obstacle.
        reason: WaitReason,
        /// The state that holds until the load has ended.
        previous: Previous<G>,
    },
    /// A load runs on its own thread.
    Loading {
        /// The load.
        load: RunningLoad,
        /// The state that holds until the load has ended.
        previous: Previous<G>,
        /// An admin call that asked for another load since this one began.
        again: Option<LoadCall>,
    },
    /// A generation serves.
    Ready(Ready<G>),
    /// Nothing serves: the last load failed, or the version was lost while it served.
    Failed(Failed),
    /// Unloaded. Its leftovers drain; it is forgotten once they have ended.
    Retiring,
}

/// Obstacle of a load that has not begun.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WaitReason {
    /// An admin call asked for the load, and the files have to be found first.
    Files(LoadCall),
    /// Other loads run, or the memory of an unloaded version is not free yet.
    Turn {
        /// The load that is next.
        request: LoadRequest,
        /// True if an admin call asked for it: it is due though nothing has changed.
        is_called: bool,
    },
    /// The model file was replaced, and its weights may be on their way.
    Weights {
        /// The load with the weights that are there.
        request: LoadRequest,
        /// The time when that load is queued.
        until: Instant,
    },
}

/// Progress of an admin call that asked for a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoadCall {
    /// No scan has looked at the files since the call.
    Unscanned,
    /// A scan has looked at them.
    Scanned,
}

/// Result of a load, as the log reports it.
#[derive(Debug)]
pub(super) enum LoadOutcome {
    /// The generation serves from the next table on.
    Ready,
    /// The load failed.
    Failed(FailedLoad),
}

impl<G: Generation> Lifecycle<G> {
    /// The lifecycle of a version for which an admin call asks.
    pub(super) fn called() -> Self {
        Lifecycle::Waiting { reason: WaitReason::Files(LoadCall::Unscanned), previous: Previous::Nothing }
    }

    fn previous(&self) -> Option<&Previous<G>> {
        match self {
            Lifecycle::Waiting { previous, .. } | Lifecycle::Loading { previous, .. } => Some(previous),
            Lifecycle::Ready(_) | Lifecycle::Failed(_) | Lifecycle::Retiring => None,
        }
    }

    fn ready(&self) -> Option<&Ready<G>> {
        match (self, self.previous()) {
            (Lifecycle::Ready(ready), _) | (_, Some(Previous::Ready(ready))) => Some(ready),
            _ => None,
        }
    }

    fn failed(&self) -> Option<&Failed> {
        match (self, self.previous()) {
            (Lifecycle::Failed(failed), _) | (_, Some(Previous::Failed(failed))) => Some(failed),
            _ => None,
        }
    }

    /// The generation that serves.
    pub(super) fn serving(&self) -> Option<&G> {
        self.ready().map(|ready| &ready.generation)
    }

    /// The failure of the last load, or the loss of the version.
    pub(super) fn failure(&self) -> Option<&LoadFailure> {
        let of_reload = self.ready().and_then(|ready| ready.reload_failure.as_ref());
        of_reload.or_else(|| self.failed().map(|failed| &failed.failure))
    }

    /// Success of the last load that ended; `None`: none has.
    pub(super) fn last_load(&self) -> Option<bool> {
        let of_ready = self.ready().map(|ready| ready.reload_failure.is_none());
        of_ready.or_else(|| self.failed().map(|failed| failed.is_lost))
    }

    /// The load that runs.
    pub(super) fn load(&self) -> Option<&RunningLoad> {
        match self {
            Lifecycle::Loading { load, .. } => Some(load),
            _ => None,
        }
    }

    pub(super) fn load_mut(&mut self) -> Option<&mut RunningLoad> {
        match self {
            Lifecycle::Loading { load, .. } => Some(load),
            _ => None,
        }
    }

    /// The load that waits for its turn.
    pub(super) fn next(&self) -> Option<&LoadRequest> {
        match self {
            Lifecycle::Waiting { reason: WaitReason::Turn { request, .. }, .. } => Some(request),
            _ => None,
        }
    }

    /// True if nothing has come of the version so far, and nothing is wrong with it either.
    pub(super) fn is_new(&self) -> bool {
        matches!(self.previous(), Some(Previous::Nothing))
    }

    /// True if nothing of the version is wanted any more.
    pub(super) fn is_retiring(&self) -> bool {
        matches!(self, Lifecycle::Retiring)
    }

    /// True if nothing is known of the version's files yet: only an admin call has named it.
    pub(super) fn is_unscanned(&self) -> bool {
        let reason = WaitReason::Files(LoadCall::Unscanned);
        matches!(self, Lifecycle::Waiting { reason: now, previous: Previous::Nothing } if *now == reason)
    }

    /// True if an admin call asked for the load that waits.
    pub(super) fn is_called(&self) -> bool {
        matches!(
            self,
            Lifecycle::Waiting { reason: WaitReason::Files(_) | WaitReason::Turn { is_called: true, .. }, .. }
        )
    }

    /// True if an admin call waits for a scan of the repository.
    pub(super) fn awaits_scan(&self) -> bool {
        matches!(
            self,
            Lifecycle::Waiting { reason: WaitReason::Files(LoadCall::Unscanned), .. }
                | Lifecycle::Loading { again: Some(LoadCall::Unscanned), .. }
        )
    }

    /// True if an admin call or a retry waits for a scan of the repository.
    pub(super) fn is_scan_due(&self, now: Instant) -> bool {
        self.awaits_scan() || self.due_at().is_some_and(|at| at <= now)
    }

    /// True if a load of a version that serves was asked for and has not ended, or any load runs.
    pub(super) fn is_changing(&self) -> bool {
        match self {
            Lifecycle::Loading { .. } => true,
            Lifecycle::Waiting {
                reason: WaitReason::Files(_) | WaitReason::Turn { is_called: true, .. },
                previous,
            } => !matches!(previous, Previous::Nothing),
            _ => false,
        }
    }

    /// The time from which a scan leads to a load though nothing has changed.
    pub(super) fn due_at(&self) -> Option<Instant> {
        match self {
            Lifecycle::Ready(ready) => Some(ready.reload_failure.as_ref()?.retry?.at),
            Lifecycle::Failed(failed) => Some(failed.failure.retry?.at),
            Lifecycle::Waiting { reason: WaitReason::Weights { until, .. }, .. } => {
                let retry = self.failure().and_then(|failure| failure.retry);
                Some(retry.map_or(*until, |retry| retry.at.min(*until)))
            }
            _ => None,
        }
    }

    /// The next step of a version that a scan found as `found` at `scanned_at`. `follows`: changed files and settings lead to a load.
    pub(super) fn verdict(&self, found: &LoadRequest, scanned_at: Option<Instant>, follows: bool) -> LoadVerdict {
        let is_over = |time: Instant| scanned_at.is_some_and(|scanned_at| time <= scanned_at);
        match self {
            Lifecycle::Loading { .. } | Lifecycle::Retiring => LoadVerdict::Rest,
            Lifecycle::Ready(ready) => ready.verdict(found, is_over, follows),
            Lifecycle::Failed(failed) => failed.verdict(found, is_over, follows),
            Lifecycle::Waiting { reason, previous } => match reason {
                WaitReason::Files(LoadCall::Unscanned) => LoadVerdict::Rest,
                WaitReason::Files(LoadCall::Scanned) | WaitReason::Turn { is_called: true, .. } => LoadVerdict::Load,
                // The weights have had their time.
                WaitReason::Turn { request, .. } if request == found => match previous.verdict(found, is_over, follows)
                {
                    LoadVerdict::AwaitWeights => LoadVerdict::Load,
                    verdict => verdict,
                },
                WaitReason::Weights { request, until } if request == found && is_over(*until) => LoadVerdict::Load,
                WaitReason::Turn { .. } | WaitReason::Weights { .. } => previous.verdict(found, is_over, follows),
            },
        }
    }

    /// Event: an admin call asks for a load. `is_reload`: also where the version serves.
    pub(super) fn call(&mut self, is_reload: bool) {
        let serves = self.serving().is_some();
        match self {
            _ if serves && !is_reload => {}
            Lifecycle::Retiring if is_reload => {}
            Lifecycle::Retiring | Lifecycle::Failed(_) => *self = Self::called(),
            Lifecycle::Ready(_) => {
                let Lifecycle::Ready(ready) = self.take() else { return };
                let reason = WaitReason::Files(LoadCall::Unscanned);
                *self = Lifecycle::Waiting { reason, previous: Previous::Ready(ready) };
            }
            Lifecycle::Waiting { reason, previous } => {
                *reason = WaitReason::Files(LoadCall::Unscanned);
                previous.forgive();
            }
            Lifecycle::Loading { previous, again, .. } => {
                *again = Some(LoadCall::Unscanned);
                previous.forgive();
            }
        }
    }

    /// Event: two scans have agreed on the files of the model.
    pub(super) fn scanned(&mut self) {
        match self {
            Lifecycle::Waiting { reason: WaitReason::Files(call), .. }
            | Lifecycle::Loading { again: Some(call), .. } => {
                *call = LoadCall::Scanned;
            }
            _ => {}
        }
    }

    /// Event: a load is due, and waits for its turn.
    pub(super) fn queue(&mut self, request: LoadRequest) {
        let is_called = self.is_called();
        let Some(previous) = self.take_previous() else { return };
        *self = Lifecycle::Waiting { reason: WaitReason::Turn { request, is_called }, previous };
    }

    /// Event: the model file has changed, and its weights have not.
    pub(super) fn hold(&mut self, request: LoadRequest, until: Instant) {
        let Some(previous) = self.take_previous() else { return };
        *self = Lifecycle::Waiting { reason: WaitReason::Weights { request, until }, previous };
    }

    /// Event: the load that waits is not due any more, or its files can't be loaded now.
    pub(super) fn release(&mut self) {
        let Lifecycle::Waiting { reason, .. } = self else { return };
        let is_called = matches!(reason, WaitReason::Turn { is_called: true, .. });
        let Some(previous) = self.take_previous() else { return };
        *self = match previous {
            Previous::Ready(ready) if !is_called => Lifecycle::Ready(ready),
            Previous::Failed(failed) if !is_called => Lifecycle::Failed(failed),
            previous => Lifecycle::Waiting { reason: WaitReason::Files(LoadCall::Scanned), previous },
        };
    }

    /// Event: the load that waited for its turn begins.
    pub(super) fn begin(&mut self, load: RunningLoad) {
        let Some(previous) = self.take_previous() else { return };
        *self = Lifecycle::Loading { load, previous, again: None };
    }

    /// Event: the generation that serves has to go before the next one can be loaded.
    pub(super) fn make_room(&mut self, leftovers: &mut Leftovers<G>) {
        if let Lifecycle::Waiting { previous: previous @ Previous::Ready(_), .. } = self {
            leftovers.draining.extend(previous.take().into_ready().map(|ready| ready.generation));
        }
    }

    /// Event: the load has ended, or there was no memory to begin it. A good one serves from the next table on; after a failed one
    /// the generation before goes on serving.
    pub(super) fn load_ended(
        &mut self,
        loaded: Result<G, Failure>,
        now: Instant,
        leftovers: &mut Leftovers<G>,
    ) -> Option<LoadOutcome> {
        let (request, previous, again) = match self.take() {
            Lifecycle::Loading { load, previous, again } => (load.request, previous, again),
            Lifecycle::Waiting { reason: WaitReason::Turn { request, .. }, previous } => (request, previous, None),
            other => {
                *self = other;
                return None;
            }
        };
        let (next, outcome) = match loaded {
            Ok(generation) => {
                let losses = previous.losses_of(&request);
                if let Previous::Ready(replaced) = previous {
                    leftovers.draining.push(replaced.generation);
                }
                (Previous::Ready(Ready { generation, last: request, reload_failure: None, losses }), LoadOutcome::Ready)
            }
            Err(failure) => {
                let (next, failed) = previous.failed(request, failure, now);
                (next, LoadOutcome::Failed(failed))
            }
        };
        *self = match (next, again) {
            (previous, Some(call)) => Lifecycle::Waiting { reason: WaitReason::Files(call), previous },
            (Previous::Ready(ready), None) => Lifecycle::Ready(ready),
            (Previous::Failed(failed), None) => Lifecycle::Failed(failed),
            (Previous::Nothing, None) => Lifecycle::Retiring,
        };
        Some(outcome)
    }

    /// Event: a generation can serve no more. `None` where it does not serve any more anyway; else the version is out of service, and
    /// its failure is returned.
    pub(super) fn lost(
        &mut self,
        generation: u64,
        lost: Lost,
        now: Instant,
        leftovers: &mut Leftovers<G>,
    ) -> Option<LoadFailure> {
        self.serving().filter(|serving| serving.number() == generation)?;
        let previous = match self {
            Lifecycle::Waiting { previous, .. } | Lifecycle::Loading { previous, .. } => previous.take(),
            _ => self.take_previous()?,
        };
        let Previous::Ready(Ready { generation, last, losses, .. }) = previous else { return None };
        leftovers.draining.push(generation);
        let losses = Losses::after(losses, now);
        let retry = losses.retry().filter(|_| !lost.is_final);
        let next = match retry {
            Some(_) => "it is loaded again with back-off",
            None => "it is quarantined: an admin call to load it, or other files, lift that",
        };
        let failure = LoadFailure { why: format!("{}; {next}", lost.why).into(), retry };
        let failed = Failed { last, failure: failure.clone(), is_lost: true, losses: Some(losses) };
        match self {
            // There is nothing to be replaced before its weights are there.
            Lifecycle::Waiting { reason: WaitReason::Weights { .. }, .. } => *self = Lifecycle::Failed(failed),
            Lifecycle::Waiting { previous, .. } | Lifecycle::Loading { previous, .. } => {
                *previous = Previous::Failed(failed)
            }
            _ => *self = Lifecycle::Failed(failed),
        }
        Some(failure)
    }

    /// Event: the version is to be loaded no more. True if a generation of it served.
    pub(super) fn unload(&mut self, leftovers: &mut Leftovers<G>) -> bool {
        let (ready, load) = match self.take() {
            Lifecycle::Ready(ready) => (Some(ready), None),
            Lifecycle::Waiting { previous, .. } => (previous.into_ready(), None),
            Lifecycle::Loading { load, previous, .. } => (previous.into_ready(), Some(load)),
            Lifecycle::Failed(_) | Lifecycle::Retiring => (None, None),
        };
        leftovers.unwanted.extend(load);
        let serves = ready.is_some();
        leftovers.draining.extend(ready.map(|ready| ready.generation));
        serves
    }

    fn take(&mut self) -> Self {
        mem::replace(self, Lifecycle::Retiring)
    }

    /// The state that is to hold while a load waits; `None` while one runs, which has that state.
    fn take_previous(&mut self) -> Option<Previous<G>> {
        match self.take() {
            Lifecycle::Waiting { previous, .. } => Some(previous),
            Lifecycle::Ready(ready) => Some(Previous::Ready(ready)),
            Lifecycle::Failed(failed) => Some(Previous::Failed(failed)),
            Lifecycle::Retiring => Some(Previous::Nothing),
            loading @ Lifecycle::Loading { .. } => {
                *self = loading;
                None
            }
        }
    }
}
