//! Standing of a version (never loaded, serving or failed) that stays valid until its next load ends: pure.

use std::{mem, sync::Arc, time::Instant};

use super::backoff::{Losses, Retry};
use crate::{error::Failure, loader::LoadRequest};

/// Standing that stays valid until the next load ends.
#[derive(Debug)]
pub(super) enum Previous<G> {
    /// The version has never been loaded, or an admin call has forgiven its failure.
    Nothing,
    /// A generation that serves.
    Ready(Ready<G>),
    /// A failure.
    Failed(Failed),
}

/// A version that serves.
#[derive(Debug)]
pub(super) struct Ready<G> {
    pub generation: G,
    /// The last load, however it ended. It is not repeated until the files or settings change, or a retry is due.
    pub last: LoadRequest,
    /// The failure of that load, where it was a reload that failed.
    pub reload_failure: Option<LoadFailure>,
    pub losses: Option<Losses>,
}

/// A version that does not serve.
#[derive(Debug)]
pub(super) struct Failed {
    /// The last load. It is not repeated until the files or settings change, or a retry is due.
    pub last: LoadRequest,
    pub failure: LoadFailure,
    /// True if the last load went well and the version was lost while it served.
    pub is_lost: bool,
    pub losses: Option<Losses>,
}

/// A failure and its retry.
#[derive(Debug, Clone)]
pub(super) struct LoadFailure {
    /// The cause, for people.
    pub why: Arc<str>,
    /// The retry; `None`: only other files or settings, or an admin call, lead to another load.
    pub retry: Option<Retry>,
}

/// Next step of a version whose files were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoadVerdict {
    /// Nothing is to be loaded.
    Rest,
    /// A load is due.
    Load,
    /// A load is due once the weights have had time to change too.
    AwaitWeights,
}

/// A load that failed, as the log reports it.
#[derive(Debug)]
pub(super) struct FailedLoad {
    pub failure: LoadFailure,
    /// True if the generation before goes on serving.
    pub serves: bool,
    /// True if the load before it failed for the same reason.
    pub is_repeated: bool,
}

impl<G> Previous<G> {
    pub(super) fn take(&mut self) -> Self {
        mem::replace(self, Previous::Nothing)
    }

    pub(super) fn into_ready(self) -> Option<Ready<G>> {
        match self {
            Previous::Ready(ready) => Some(ready),
            Previous::Nothing | Previous::Failed(_) => None,
        }
    }

    /// Forgets a failure, its back-off and its losses: an admin call asks for another attempt.
    pub(super) fn forgive(&mut self) {
        if matches!(self, Previous::Failed(_)) {
            *self = Previous::Nothing;
        }
    }

    pub(super) fn verdict(&self, found: &LoadRequest, is_over: impl Fn(Instant) -> bool, follows: bool) -> LoadVerdict {
        match self {
            Previous::Nothing => LoadVerdict::Load,
            Previous::Ready(ready) => ready.verdict(found, is_over, follows),
            Previous::Failed(failed) => failed.verdict(found, is_over, follows),
        }
    }

    /// Losses that count for a version that is loaded from this.
    pub(super) fn losses_of(&self, request: &LoadRequest) -> Option<Losses> {
        match self {
            Previous::Ready(Ready { last, losses, .. }) | Previous::Failed(Failed { last, losses, .. }) => {
                losses.filter(|_| last == request)
            }
            Previous::Nothing => None,
        }
    }

    /// The state after a failed load.
    pub(super) fn failed(
        self,
        request: LoadRequest,
        Failure { why, may_pass }: Failure,
        now: Instant,
    ) -> (Self, FailedLoad) {
        let losses = self.losses_of(&request);
        let before = match &self {
            Previous::Ready(Ready { last, reload_failure: Some(failure), .. }) => Some((last, failure)),
            Previous::Failed(Failed { last, failure, .. }) => Some((last, failure)),
            Previous::Ready(_) | Previous::Nothing => None,
        };
        // The back-off goes on as long as the same files and settings fail.
        let before = before.filter(|(last, _)| **last == request).map(|(_, failure)| failure);
        let previous_retry = before.and_then(|failure| failure.retry);
        let is_repeated = previous_retry.is_some() && before.is_some_and(|failure| *failure.why == why);
        let retry = may_pass.then(|| Retry::after(previous_retry, now));
        let failure = LoadFailure { why: why.into(), retry };
        let serves = matches!(self, Previous::Ready(_));
        let report = FailedLoad { failure: failure.clone(), serves, is_repeated };
        let next = match self {
            Previous::Ready(ready) => {
                Previous::Ready(Ready { last: request, reload_failure: Some(failure), losses, ..ready })
            }
            Previous::Nothing | Previous::Failed(_) => {
                Previous::Failed(Failed { last: request, failure, is_lost: false, losses })
            }
        };
        (next, report)
    }
}

impl<G> Ready<G> {
    pub(super) fn verdict(&self, found: &LoadRequest, is_over: impl Fn(Instant) -> bool, follows: bool) -> LoadVerdict {
        let retry = self.reload_failure.as_ref().and_then(|failure| failure.retry);
        if retry.is_some_and(|retry| is_over(retry.at)) {
            return LoadVerdict::Load;
        }
        if !follows || self.last == *found {
            return LoadVerdict::Rest;
        }
        // A version that serves is not replaced by a new graph over the old weights.
        match found.source.fingerprint.may_await_weights(&self.last.source.fingerprint) {
            true => LoadVerdict::AwaitWeights,
            false => LoadVerdict::Load,
        }
    }
}

impl Failed {
    pub(super) fn verdict(&self, found: &LoadRequest, is_over: impl Fn(Instant) -> bool, follows: bool) -> LoadVerdict {
        let is_retried = self.failure.retry.is_some_and(|retry| is_over(retry.at));
        if is_retried || follows && self.last != *found { LoadVerdict::Load } else { LoadVerdict::Rest }
    }
}
