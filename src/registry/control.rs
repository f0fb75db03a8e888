//! The registry as admin calls see it: status, changes, events.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::sync::broadcast;

use super::{
    message::Message,
    shared::SharedState,
    status::{Event, ModelStatus, VersionState, VersionStatus},
    warnings::warnings,
};
use crate::{
    clock,
    error::{Code, Error, Result},
    metrics::VersionSnapshot,
    repository::RepositoryModel,
    router::Router,
    state::{Applied, Change, ChangeContext, Desired, ModelState, Record, Store, SwapError},
    traffic::{Resolver, Selector, Traffic},
};

/// The registry, as admin calls see it. Copies are the same registry.
#[derive(Clone)]
pub struct Control {
    /// The router that serves the tables, and that explains which version a request would get.
    pub router: Arc<Router>,
    pub(super) shared: Arc<SharedState>,
}

/// Result of a change.
#[derive(Debug, Clone)]
pub struct ChangeResult {
    /// The state's revision with the change.
    pub revision: u64,
    /// The record of the change.
    pub record: Record,
    /// The model now.
    pub model: ModelStatus,
    /// Warnings about effects that may not have been meant.
    pub warnings: Vec<String>,
}

/// A change that can be made, if the state is still the one that it is based on.
struct Proposal {
    /// The revision of that state.
    expected: u64,
    /// The state with the change.
    desired: Arc<Desired>,
    record: Record,
    /// The model before the change.
    before: Option<ModelStatus>,
    /// Warnings for people.
    warnings: Vec<String>,
    /// Models that the state forgets with the change.
    forgotten: Vec<String>,
}

/// Conflicts with changes of other servers after which a change is judged again.
const MAX_CONFLICTS: usize = 7;

impl Control {
    /// The desired state's revision.
    pub fn revision(&self) -> u64 {
        self.shared.inventory().desired.revision
    }

    /// Memory that versions take, by the estimate: those that serve, are being loaded, or are not freed yet.
    pub fn memory(&self) -> u64 {
        self.shared.inventory().memory()
    }

    /// Every model, by name.
    pub fn models(&self) -> Vec<ModelStatus> {
        self.shared.inventory().statuses().collect()
    }

    /// One model.
    ///
    /// # Errors
    /// There is no such model.
    pub fn model(&self, name: &str) -> Result<ModelStatus> {
        self.shared.inventory().status(name).ok_or_else(|| unknown(name))
    }

    /// Figures of a version that is ready, as the metrics port exports them.
    ///
    /// # Errors
    /// There is no such model or version, or it is not ready.
    pub fn figures(&self, model: &str, version: u64) -> Result<VersionSnapshot> {
        let table = self.router.table();
        Ok(table.shown(model, &Selector::Version(version))?.metrics.snapshot())
    }

    /// Makes the change that `asked` gives for the names that the model has now: it is durable, and requests that begin from now
    /// on go by it, when this returns. Loads go on after that.
    /// Blocks while the state is written, and where something is to be loaded, while the model's folder is looked at.
    ///
    /// # Errors
    /// It can't be made, or can't be kept; nothing is changed then.
    pub fn change(
        &self,
        model: &str,
        asked: impl Fn(Resolver<'_>) -> Result<Change>,
        context: ChangeContext,
    ) -> Result<ChangeResult> {
        let shared = &self.shared;
        let asked = |traffic: &Traffic| asked(Resolver { model, traffic });
        // The last look may have been before the files came.
        let looks = matches!(asked(&shared.inventory().traffic(model)), Ok(Change::Load(_) | Change::Reload(_)));
        let fresh = looks.then(|| shared.repository.scan_one(model)).flatten();
        let mut store = shared.store.lock().unwrap_or_else(PoisonError::into_inner);
        let mut conflicts = 0;
        let (proposal, problem) = loop {
            store.claim().and_then(|()| shared.catch_up(&mut **store)).map_err(unchanged)?;
            let proposal = self.propose(model, &asked, &context, fresh.as_ref(), &**store)?;
            match store.compare_and_swap(proposal.expected, &proposal.desired) {
                Ok(problem) => break (proposal, problem),
                Err(SwapError::Failed(error)) => return Err(unchanged(error)),
                Err(SwapError::Conflict { .. }) if conflicts < MAX_CONFLICTS => conflicts += 1,
                Err(SwapError::Conflict { found }) => return Err(overtaken(&**store, found)),
            }
        };
        let Proposal { desired, record, before, warnings: mut noticed, forgotten, .. } = proposal;
        for name in forgotten {
            tracing::warn!(model = name, "model gone for long, its state from admin calls is forgotten");
        }
        let change = &record.change;
        if let Change::Load(version) | Change::Reload(version) = change {
            shared.deaths.iter().for_each(|deaths| deaths.forgive(model, *version));
            shared.trials.iter().for_each(|trials| trials.forget_failures(model, *version));
        }
        let mut inventory = shared.inventory();
        inventory.set_desired(desired);
        let on_disk = fresh.into_iter().flat_map(|model| model.versions.into_keys()).collect();
        inventory.called(model, change, &on_disk);
        shared.unload_leaving(&mut inventory);
        shared.publish(&mut inventory, Some(&record));
        let status = inventory.status(model);
        drop(inventory);
        drop(store);
        audit(model, &record);
        shared.send(Message::Wake);
        let status = status.or_else(|| before.clone()).ok_or_else(|| unknown(model))?;
        noticed.extend(warnings(change, before.as_ref(), &status));
        if let Some(problem) = problem {
            tracing::error!(model, error = problem, "audit log not written");
            noticed.push(problem);
        }
        Ok(ChangeResult { revision: record.revision, record, model: status, warnings: noticed })
    }

    /// Judges a change by the state that is known, and applies it to that.
    fn propose(
        &self,
        model: &str,
        asked: &dyn Fn(&Traffic) -> Result<Change>,
        context: &ChangeContext,
        fresh: Option<&RepositoryModel>,
        store: &dyn Store,
    ) -> Result<Proposal> {
        let inventory = self.shared.inventory();
        let facts = inventory.facts(model, fresh).ok_or_else(|| unknown(model))?;
        let before = inventory.status(model);
        let state = inventory.desired.models.get(model).cloned().unwrap_or_default();
        check_expected(model, &state, &inventory.desired, context.expected_revision)?;
        let change = asked(&inventory.traffic(model))?;
        let expected = inventory.desired.revision;
        let revision = expected.checked_add(1).ok_or_else(|| spent(store))?;
        let record = Record {
            revision,
            time: humantime::format_rfc3339_millis(clock::now()).to_string(),
            actor: context.actor.clone(),
            reason: context.reason.clone(),
            change: change.clone(),
            before: None,
            after: None,
            origin: None,
        };
        let Applied { state, warnings } = state.apply(model, &change, &facts, record)?;
        let record = state.history.last().cloned().ok_or_else(|| Error::internal("a change was not recorded"))?;
        let mut desired = Desired::clone(&inventory.desired);
        desired.revision = revision;
        desired.models.insert(model.to_owned(), state);
        let forgotten = desired.forget(|name| inventory.has(name));
        Ok(Proposal { expected, desired: Arc::new(desired), record, before, warnings, forgotten })
    }

    /// The last changes of a model, oldest first.
    ///
    /// # Errors
    /// There is no such model.
    pub fn history(&self, model: &str) -> Result<Vec<Record>> {
        let inventory = self.shared.inventory();
        match inventory.desired.models.get(model) {
            Some(state) => Ok(state.history.clone()),
            None if inventory.has(model) => Ok(Vec::new()),
            None => Err(unknown(model)),
        }
    }

    /// Every model's state as events, and then every change. A watcher that falls behind gets `Lagged` and can begin again.
    pub fn watch(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        self.shared.watch()
    }

    /// Waits until a version is ready; without one, until every version that is to be loaded is, and there is one.
    ///
    /// # Errors
    /// There is no such version, it fails to be loaded, nothing asks for it to be loaded, or it takes longer than that.
    pub async fn wait_ready(&self, model: &str, version: Option<u64>, limit: Duration) -> Result<ModelStatus> {
        let mut changes = self.router.changes();
        let ready = async {
            loop {
                changes.borrow_and_update();
                let (status, is_changing) = {
                    let inventory = self.shared.inventory();
                    let status = inventory.status(model).ok_or_else(|| unknown(model))?;
                    (status, inventory.is_changing(model, version))
                };
                // A version that serves while it is reloaded is not the one that is waited for.
                if !is_changing && is_ready(&status, version)? {
                    return Ok(status);
                }
                if changes.changed().await.is_err() {
                    return Err(Error::internal("the router is gone"));
                }
            }
        };
        let late = |_| {
            let what = version.map_or_else(String::new, |version| format!(" version {version}"));
            let message = format!("model '{model}'{what} did not become ready within {limit:?}");
            Error::new(Code::DeadlineExceeded, message)
        };
        tokio::time::timeout(limit, ready).await.map_err(late)?
    }

    /// Has the registry look whether there is something to do, or whether it is to end.
    pub fn wake(&self) {
        self.shared.send(Message::Wake);
    }
}

fn unknown(model: &str) -> Error {
    Error::new(Code::NotFound, format!("Request for unknown model: '{model}' is not found"))
}

/// The error of a change whose state could not be read or written.
fn unchanged(error: Error) -> Error {
    Error::new(error.code(), format!("nothing was changed: {error}"))
}

/// The error of a change before which other servers have made theirs, time and again.
fn overtaken(store: &dyn Store, found: u64) -> Error {
    let conflicts = MAX_CONFLICTS + 1;
    let message = format!(
        "nothing was changed: {store} has been changed by other servers {conflicts} times meanwhile, and is at revision {found}: \
         try again"
    );
    Error::new(Code::Unavailable, message)
}

/// The error of a state whose revision can't be counted up. Only a hand-written file can have such a revision.
fn spent(store: &dyn Store) -> Error {
    let last = u64::MAX;
    Error::new(Code::FailedPrecondition, format!("{store} is at revision {last}: none comes after it"))
}

/// True if the version, or every version that is to be loaded, is ready.
fn is_ready(status: &ModelStatus, version: Option<u64>) -> Result<bool> {
    let Some(number) = version else {
        let mut some = false;
        for version in status.versions.iter().filter(|version| version.state != VersionState::Unloaded) {
            match version.state {
                VersionState::Retiring => {}
                _ if is_version_ready(status, version)? => some = true,
                _ => return Ok(false),
            }
        }
        let none = || precondition(status, "no version of it is loaded or to be loaded");
        return if some { Ok(true) } else { Err(none()) };
    };
    let found = status.versions.iter().find(|version| version.version == number);
    let missing = || {
        let existing: Vec<_> = status.versions.iter().map(|version| version.version.to_string()).collect();
        let existing = if existing.is_empty() { "none".into() } else { existing.join(", ") };
        let message = format!("model '{}' has no version {number}; its versions are: {existing}", status.name);
        Error::new(Code::NotFound, message)
    };
    is_version_ready(status, found.ok_or_else(missing)?)
}

fn is_version_ready(status: &ModelStatus, version: &VersionStatus) -> Result<bool> {
    let why = version.problem.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    let number = version.version;
    match version.state {
        VersionState::Ready => Ok(true),
        VersionState::Loading => Ok(false),
        VersionState::Failed => Err(precondition(status, &format!("version {number} failed to be loaded{why}"))),
        VersionState::Unloaded => Err(precondition(status, &format!("version {number} is not loaded{why}"))),
        VersionState::Retiring => Err(precondition(status, &format!("version {number} is being unloaded"))),
    }
}

fn precondition(status: &ModelStatus, why: &str) -> Error {
    Error::new(Code::FailedPrecondition, format!("model '{}': {why}", status.name))
}

/// Refuses a change of a model that has changed since the revision that the caller expects.
fn check_expected(model: &str, state: &ModelState, desired: &Desired, expected: Option<u64>) -> Result<()> {
    let Some(expected) = expected else { return Ok(()) };
    if expected > desired.revision {
        let now = desired.revision;
        let message = format!("model '{model}': expected revision {expected}, but the state has only come to {now}");
        return Err(Error::new(Code::Aborted, message));
    }
    if state.revision <= expected {
        return Ok(());
    }
    let since = state.history.iter().filter(|record| record.revision > expected);
    let changes: Vec<String> = since.map(ToString::to_string).collect();
    let message = format!("model '{model}' has been changed since revision {expected}: {}", changes.join("; "));
    Err(Error::new(Code::Aborted, message))
}

fn audit(model: &str, record: &Record) {
    let Record { revision, actor, reason, change, before, after, .. } = record;
    tracing::info!(
        target: "onnxd::audit",
        model,
        revision,
        actor,
        reason,
        change = change.to_string(),
        before = before.as_ref().map(ToString::to_string),
        after = after.as_ref().map(ToString::to_string),
        "state changed"
    );
}
