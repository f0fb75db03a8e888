//! Events for watchers: the difference between the last events and the present state.

use std::{collections::BTreeMap, mem, time::SystemTime};

use super::{
    announced::AnnouncedVersion,
    generation::Generation,
    inventory::Inventory,
    status::{Event, EventKind, Standing, VersionState},
};
use crate::{clock, loader::VersionKey, state::Record, traffic::Traffic};

impl<G: Generation> Inventory<G> {
    /// Takes over the present state, and gives the events that lead to it. `cause`: the change of the admin call that led to it.
    pub(super) fn announce(&mut self, standings: BTreeMap<VersionKey, Standing>, cause: Option<&Record>) -> Vec<Event> {
        let mut events = self.announce_versions(standings);
        // After the versions: a watcher that follows events in order knows first what answers.
        events.extend(self.announce_draining());
        events.extend(self.announce_traffic(cause));
        events
    }

    fn announce_versions(&mut self, standings: BTreeMap<VersionKey, Standing>) -> Vec<Event> {
        let (now, revision) = (clock::now(), self.desired.revision);
        let mut events = Vec::new();
        let mut before = mem::take(&mut self.announced.versions);
        for (key, standing) in standings {
            let last = before.remove(&key);
            let same_life = last.as_ref().filter(|last| {
                (last.standing.state, last.standing.generation) == (standing.state, standing.generation)
            });
            let since = same_life.map_or(now, |last| last.since);
            if last.is_none_or(|last| last.standing != standing) {
                events.push(version_event(now, revision, &key, Some(&standing)));
            }
            self.announced.versions.insert(key, AnnouncedVersion { standing, since });
        }
        events.extend(before.keys().map(|key| version_event(now, revision, key, None)));
        self.load_counts.retain(|key, _| self.announced.versions.contains_key(key));
        events
    }

    fn announce_draining(&mut self) -> Vec<Event> {
        let now = self.draining();
        let before = mem::replace(&mut self.announced.draining, now);
        let (now, revision) = (&self.announced.draining, self.desired.revision);
        let begun =
            now.difference(&before).map(|which| generation_event(revision, which, Some(VersionState::Retiring)));
        begun.chain(before.difference(now).map(|which| generation_event(revision, which, None))).collect()
    }

    fn announce_traffic(&mut self, cause: Option<&Record>) -> Vec<Event> {
        let names = self.names().into_iter().cloned();
        let now: BTreeMap<String, Traffic> = names.map(|name| (name.clone(), self.traffic(&name))).collect();
        let is_new = |(model, traffic): &(&String, &Traffic)| {
            // A new model without any settings is no news.
            let before = self.announced.traffic.get(*model);
            before != Some(traffic) && (before.is_some() || **traffic != Traffic::default())
        };
        let revision = self.desired.revision;
        let event = |(model, traffic): (&String, &Traffic)| traffic_event(revision, model, traffic, cause);
        let events = now.iter().filter(is_new).map(event).collect();
        self.announced.traffic = now;
        events
    }

    /// The last events of everything that exists.
    pub(super) fn last_events(&self) -> Vec<Event> {
        let revision = self.desired.revision;
        let versions = self.announced.versions.iter();
        let versions = versions.map(|(key, last)| version_event(last.since, revision, key, Some(&last.standing)));
        let draining = self.announced.draining.iter();
        let draining = draining.map(|which| generation_event(revision, which, Some(VersionState::Retiring)));
        let decided = self.announced.traffic.iter().filter(|(_, traffic)| **traffic != Traffic::default());
        let traffic = decided.map(|(model, traffic)| traffic_event(revision, model, traffic, None));
        versions.chain(draining).chain(traffic).collect()
    }
}

fn version_event(time: SystemTime, revision: u64, (model, version): &VersionKey, standing: Option<&Standing>) -> Event {
    let what = EventKind::Version {
        version: *version,
        state: standing.map(|standing| -> VersionState { standing.state }),
        generation: standing.and_then(|standing| standing.generation),
        reason: standing.and_then(|standing| standing.reason.clone()),
    };
    Event { time, revision, model: model.clone(), what }
}

fn generation_event(
    revision: u64,
    ((model, version), generation): &(VersionKey, u64),
    state: Option<VersionState>,
) -> Event {
    let what = EventKind::Generation { version: *version, generation: *generation, state };
    Event { time: clock::now(), revision, model: model.clone(), what }
}

fn traffic_event(revision: u64, model: &str, traffic: &Traffic, cause: Option<&Record>) -> Event {
    let (actor, reason) = cause.map(|record| (record.actor.clone(), record.reason.clone())).unwrap_or_default();
    let what = EventKind::Traffic { traffic: traffic.clone(), actor, reason };
    Event { time: clock::now(), revision, model: model.to_owned(), what }
}
