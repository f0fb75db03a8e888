//! Facts of the registry as messages.

use std::time::SystemTime;

use crate::{
    api::proto::admin::{
        ChangeResponse, Event, ExplainResponse, Model, Record, Share, Traffic, TrafficEvent, Version, VersionEvent,
    },
    clock,
    registry::{self, ChangeResult, EventKind, ModelStatus, TrafficSource, VersionState, VersionStatus},
    router::Explanation,
    state::{self, Change},
    traffic::{self, Reason, Selector},
};

/// The state of a version that there is not any more.
const GONE: &str = "GONE";

pub(super) fn models(statuses: Vec<ModelStatus>) -> Vec<Model> {
    statuses.into_iter().map(model).collect()
}

pub(super) fn model(status: ModelStatus) -> Model {
    Model {
        name: status.name,
        revision: status.revision,
        traffic: Some(traffic(status.traffic)),
        decided_by_admin: matches!(status.source, TrafficSource::Admin(_)),
        versions: status.versions.into_iter().map(version).collect(),
        problem: status.problem,
        source: status.source.to_string(),
        shadowed: status.shadowed.map(traffic),
        warnings: status.warnings,
    }
}

fn version(status: VersionStatus) -> Version {
    Version {
        version: status.version,
        state: status.state.label().into(),
        since: time(status.since),
        generation: status.generation,
        weight: status.weight,
        share: status.share,
        aliases: status.aliases,
        memory_bytes: status.memory_bytes,
        run_memory_bytes: status.run_memory_bytes,
        load_seconds: status.load_seconds,
        path: status.path.map(|path| path.display().to_string()),
        problem: status.problem,
        devices: status.devices,
        isolation: status.isolation.map(Into::into),
        isolation_reason: status.isolation_reason,
    }
}

fn traffic(traffic: traffic::Traffic) -> Traffic {
    Traffic { weights: traffic.weights.into(), aliases: traffic.aliases }
}

pub(super) fn change_response(changed: ChangeResult) -> ChangeResponse {
    ChangeResponse {
        revision: changed.revision,
        record: Some(record(changed.record)),
        model: Some(model(changed.model)),
        warnings: changed.warnings,
    }
}

pub(super) fn history(records: Vec<state::Record>) -> Vec<Record> {
    records.into_iter().map(record).collect()
}

fn record(record: state::Record) -> Record {
    Record {
        revision: record.revision,
        time: record.time,
        actor: record.actor,
        reason: record.reason,
        kind: kind(&record.change).into(),
        change: record.change.to_string(),
        before: record.before.map(traffic),
        after: record.after.map(traffic),
        version: one_version(&record.change),
    }
}

fn kind(change: &Change) -> &'static str {
    match change {
        Change::Load(_) => "load",
        Change::Unload(_) | Change::ForceUnload(_) => "unload",
        Change::Reload(_) => "reload",
        Change::SetWeights(_) => "set_weights",
        Change::Shift { .. } => "shift",
        Change::SetAlias { .. } => "set_alias",
        Change::DropAlias(_) => "drop_alias",
        Change::Promote(_) => "promote",
        Change::Rollback | Change::RollbackTo(_) => "rollback",
        Change::Abort => "abort",
        Change::ResetTraffic => "reset_traffic",
    }
}

/// The version that a change is about, if it is one.
fn one_version(change: &Change) -> Option<u64> {
    match change {
        Change::Load(version) | Change::Unload(version) | Change::ForceUnload(version) | Change::Reload(version) => {
            *version
        }
        Change::Promote(version) | Change::SetAlias { version, .. } => Some(*version),
        _ => None,
    }
}

pub(super) fn event(event: registry::Event) -> Event {
    let mut message =
        Event { time: time(event.time), revision: event.revision, model: event.model, ..Event::default() };
    match event.what {
        EventKind::Version { version, state, generation, reason } => {
            message.kind = "version".into();
            let state = state.map_or(GONE, VersionState::label).into();
            message.version = Some(VersionEvent { version, state, generation, reason });
        }
        EventKind::Generation { version, generation, state } => {
            message.kind = "generation".into();
            let state = state.map_or(GONE, VersionState::label).into();
            message.version = Some(VersionEvent { version, state, generation: Some(generation), reason: None });
        }
        EventKind::Traffic { traffic: now, actor, reason } => {
            message.kind = "traffic".into();
            message.traffic = Some(TrafficEvent { traffic: Some(traffic(now)), actor, reason });
        }
    }
    message
}

pub(super) fn explanation(
    model: &str,
    selector: &Selector,
    key: Option<&str>,
    explanation: Explanation,
) -> ExplainResponse {
    let Explanation { version, reason, shares } = explanation;
    let share = |(version, share)| Share { version, share };
    ExplainResponse {
        model: model.into(),
        version,
        reason: reason.label().into(),
        explanation: why(selector, key, version, reason),
        shares: shares.into_iter().map(share).collect(),
    }
}

fn why(selector: &Selector, key: Option<&str>, version: Option<u64>, reason: Reason) -> String {
    match (reason, selector, version) {
        (Reason::Pinned, ..) => "the request names the version".into(),
        (_, Selector::Alias(alias), _) => format!("the request names the alias '{alias}'"),
        (Reason::Sticky, ..) => format!("the routing key '{}' falls to it by the weights", key.unwrap_or_default()),
        (Reason::Weighted, _, None) => "chance decides by the weights, since the request has no routing key".into(),
        (Reason::Weighted, ..) => "it alone has weight and is READY".into(),
        (Reason::Alias | Reason::Default, ..) => {
            "there are no weights: it is `stable`, or without that alias the highest version that is READY".into()
        }
    }
}

pub(super) fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(clock::clamp(time)).to_string()
}
