//! Statuses and events of models and versions.

use std::{path::PathBuf, time::SystemTime};

use crate::traffic::Traffic;

/// State of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionState {
    /// The repository holds it, and nothing asks for it to be loaded.
    Unloaded,
    /// It is being loaded for the first time, or waits for that.
    Loading,
    /// It answers.
    Ready,
    /// It takes no new requests and answers those that it has.
    Retiring,
    /// It could not be loaded.
    Failed,
}

impl VersionState {
    /// The word for it, in answers and in metrics.
    pub fn label(self) -> &'static str {
        match self {
            VersionState::Unloaded => "UNLOADED",
            VersionState::Loading => "LOADING",
            VersionState::Ready => "READY",
            VersionState::Retiring => "RETIRING",
            VersionState::Failed => "FAILED",
        }
    }
}

/// Authority over a model's traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrafficSource {
    /// Weights or aliases in its configuration.
    Config,
    /// The admin call of this revision; 0: an older server did not keep it.
    Admin(u64),
    /// Nothing: the highest version that is ready takes them.
    Default,
}

impl std::fmt::Display for TrafficSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TrafficSource::Config => f.write_str("config.toml"),
            TrafficSource::Admin(revision) => write!(f, "admin revision {revision}"),
            TrafficSource::Default => f.write_str("default"),
        }
    }
}

/// A model as it is now.
#[derive(Debug, Clone)]
pub struct ModelStatus {
    /// Its name.
    pub name: String,
    /// The revision of the last change that an admin call made to it; 0: none has.
    pub revision: u64,
    /// Where its requests go.
    pub traffic: Traffic,
    /// Authority over that.
    pub source: TrafficSource,
    /// The configuration's traffic, where an admin call decides and it says something else.
    pub shadowed: Option<Traffic>,
    /// Its versions, lowest first.
    pub versions: Vec<VersionStatus>,
    /// The problem of its folder, if there is one.
    pub problem: Option<String>,
    /// Warnings: possible mistakes that are no reason not to serve it.
    pub warnings: Vec<String>,
}

/// A version as it is now.
#[derive(Debug, Clone)]
pub struct VersionStatus {
    /// Its number.
    pub version: u64,
    /// Its state.
    pub state: VersionState,
    /// Since when.
    pub since: SystemTime,
    /// Number of the load that answers, if one does; counts up over the server's life.
    pub generation: Option<u64>,
    /// Its weight, where the model has weights.
    pub weight: Option<f64>,
    /// The part of the requests without a version that it gets now, from 0 to 1.
    pub share: f64,
    /// Names that it has.
    pub aliases: Vec<String>,
    /// Memory of its weights on the host, if it is loaded: as they were read for each of its sessions, or as they were counted where
    /// that is more.
    pub memory_bytes: Option<u64>,
    /// Memory that its runs hold now, if it is loaded.
    pub run_memory_bytes: Option<u64>,
    /// Seconds that its last load took, if it is loaded.
    pub load_seconds: Option<f64>,
    /// The devices that it runs on, if it is loaded.
    pub devices: Vec<String>,
    /// The process of its sessions, if it is loaded: `none` (in the server's process) or `process` (in worker processes).
    pub isolation: Option<&'static str>,
    /// Why they run in worker processes, if they do.
    pub isolation_reason: Option<String>,
    /// Its model file.
    pub path: Option<PathBuf>,
    /// Why it failed to be loaded, or what else there is to know: a reload that failed, files that are gone.
    pub problem: Option<String>,
}

/// A change of a model or a version.
#[derive(Debug, Clone)]
pub struct Event {
    /// When.
    pub time: SystemTime,
    /// The desired state's revision then.
    pub revision: u64,
    /// The model.
    pub model: String,
    /// The kind of the change.
    pub what: EventKind,
}

/// Kind of an event.
#[derive(Debug, Clone)]
pub enum EventKind {
    /// A version has come into a state.
    Version {
        /// The version.
        version: u64,
        /// The state; `None`: it is gone.
        state: Option<VersionState>,
        /// Number of the load that the event is about, where that is known.
        generation: Option<u64>,
        /// Why, where that is known.
        reason: Option<String>,
    },
    /// A generation that has been replaced drains, or has ended; the version goes on.
    Generation {
        /// The version.
        version: u64,
        /// Number of the load.
        generation: u64,
        /// Retiring; `None`: its last request is answered and it is freed.
        state: Option<VersionState>,
    },
    /// Requests go elsewhere.
    Traffic {
        /// From now on.
        traffic: Traffic,
        /// The caller, where an admin call made the change.
        actor: String,
        /// Why.
        reason: String,
    },
}

/// State of a version, as watchers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub state: VersionState,
    pub generation: Option<u64>,
    pub reason: Option<String>,
}

impl Standing {
    /// `Ok` if the version answers, else the reason, for people.
    pub(super) fn ready(&self) -> Result<(), String> {
        let reason = || self.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        match self.state {
            VersionState::Ready => Ok(()),
            VersionState::Loading => Err("it is being loaded".into()),
            VersionState::Retiring => Err("it is retiring".into()),
            VersionState::Unloaded => Err(format!("it is not loaded{}", reason())),
            VersionState::Failed => Err(format!("it failed to be loaded{}", reason())),
        }
    }
}
