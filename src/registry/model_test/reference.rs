//! A simple reference of what may be loaded when: it knows calls, results and the clock, and no lifecycles.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::loader::{LoadRequest, VersionKey};

const FIRST_DELAY: Duration = Duration::from_secs(1);
const MAX_DELAY: Duration = Duration::from_secs(300);
const RECOVERED_AFTER: Duration = Duration::from_secs(600);
const MAX_LOSSES: u32 = 5;
const WEIGHTS_TIMEOUT: Duration = Duration::from_secs(20);

/// The last load of a version that has ended, and what has become of it.
#[derive(Debug, Clone)]
struct Attempt {
    request: LoadRequest,
    /// The delay before the next attempt, and when that is due; `None`: never, unless something changes.
    retry: Option<(Duration, Instant)>,
    /// True if the attempt failed or its generation was lost.
    is_failed: bool,
    losses: Option<(u32, Instant, Duration)>,
}

#[derive(Debug, Default)]
pub(super) struct Reference {
    attempts: BTreeMap<VersionKey, Attempt>,
    /// Versions for which an admin call asked for a load that has not begun since.
    calls: BTreeSet<VersionKey>,
    /// The files of each version, and since when they are known.
    found: BTreeMap<VersionKey, (LoadRequest, Instant)>,
}

fn doubled(delay: Option<Duration>) -> Duration {
    delay.map_or(FIRST_DELAY, |delay| (delay * 2).min(MAX_DELAY))
}

impl Reference {
    pub(super) fn found(&mut self, found: BTreeMap<VersionKey, LoadRequest>, now: Instant) {
        let before = std::mem::take(&mut self.found);
        for (key, request) in found {
            let since = before.get(&key).filter(|(known, _)| *known == request).map_or(now, |(_, since)| *since);
            self.found.insert(key, (request, since));
        }
    }

    pub(super) fn called(&mut self, key: &VersionKey, serves: bool) {
        self.calls.insert(key.clone());
        if !serves {
            self.attempts.remove(key);
        }
    }

    pub(super) fn awaits_load(&self, key: &VersionKey) -> bool {
        self.calls.contains(key)
    }

    pub(super) fn unloaded(&mut self, key: &VersionKey) {
        self.calls.remove(key);
        self.attempts.remove(key);
    }

    pub(super) fn made_room(&mut self, key: &VersionKey) {
        self.attempts.remove(key);
    }

    /// A load begins: it has a cause.
    pub(super) fn begins(
        &mut self,
        key: &VersionKey,
        request: &LoadRequest,
        follows: bool,
        serves: bool,
        now: Instant,
    ) -> Result<(), String> {
        let Some((found, since)) = self.found.get(key) else { return Err(format!("{key:?} is loaded without files")) };
        if found != request {
            return Err(format!("{key:?} is loaded from other files than those that were found"));
        }
        if self.calls.remove(key) {
            return Ok(());
        }
        let Some(attempt) = self.attempts.get(key) else { return Ok(()) };
        if attempt.retry.is_some_and(|(_, at)| at <= now) {
            return Ok(());
        }
        if attempt.request == *request {
            return Err(format!("{key:?} is loaded again too early, or for nothing: {attempt:?} at {now:?}"));
        }
        if !follows {
            return Err(format!("{key:?} is loaded for other files though files are not followed"));
        }
        let fingerprint = &request.source.fingerprint;
        let awaits = serves && fingerprint.may_await_weights(&attempt.request.source.fingerprint);
        if awaits && now < *since + WEIGHTS_TIMEOUT {
            return Err(format!("{key:?} is loaded before its weights had their time"));
        }
        Ok(())
    }

    pub(super) fn succeeded(&mut self, key: &VersionKey, request: &LoadRequest) {
        let losses = self.same(key, request).and_then(|attempt| attempt.losses);
        let attempt = Attempt { request: request.clone(), retry: None, is_failed: false, losses };
        self.attempts.insert(key.clone(), attempt);
    }

    pub(super) fn failed(&mut self, key: &VersionKey, request: &LoadRequest, may_pass: bool, now: Instant) {
        let same = self.same(key, request);
        let losses = same.and_then(|attempt| attempt.losses);
        let delay = doubled(same.and_then(|attempt| attempt.retry).map(|(delay, _)| delay));
        let retry = may_pass.then_some((delay, now + delay));
        let attempt = Attempt { request: request.clone(), retry, is_failed: true, losses };
        self.attempts.insert(key.clone(), attempt);
    }

    pub(super) fn lost(&mut self, key: &VersionKey, is_final: bool, now: Instant) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        let before = attempt.losses.filter(|(_, last, _)| now - *last < RECOVERED_AFTER);
        let count = before.map_or(0, |(count, ..)| count) + 1;
        let delay = doubled(before.map(|(.., delay)| delay));
        attempt.losses = Some((count, now, delay));
        attempt.retry = (count < MAX_LOSSES && !is_final).then_some((delay, now + delay));
        attempt.is_failed = true;
    }

    /// The load that a call asked for was refused.
    pub(super) fn answered(&mut self, key: &VersionKey) {
        self.calls.remove(key);
    }

    pub(super) fn is_loaded_from(&self, key: &VersionKey, request: &LoadRequest) -> bool {
        self.same(key, request).is_some_and(|attempt| !attempt.is_failed)
    }

    /// True if the version may stay without a load of these files, or of any, for ever.
    pub(super) fn has_given_up(&self, key: &VersionKey, request: Option<&LoadRequest>) -> bool {
        let attempt =
            self.attempts.get(key).filter(|attempt| request.is_none_or(|request| attempt.request == *request));
        attempt.is_some_and(|attempt| attempt.is_failed && attempt.retry.is_none())
    }

    fn same(&self, key: &VersionKey, request: &LoadRequest) -> Option<&Attempt> {
        self.attempts.get(key).filter(|attempt| attempt.request == *request)
    }
}
