//! Every call, once for both protocols: decode, call one function, encode.

use std::{collections::BTreeMap, time::Duration};

use super::{
    backend::Admin,
    convert::{change_response, explanation, history, model, models},
};
use crate::{
    api::proto::admin::{
        AbortRequest, ChangeResponse, DropAliasRequest, ExplainRequest, ExplainResponse, GetHistoryRequest,
        GetHistoryResponse, GetModelRequest, ListModelsRequest, ListModelsResponse, LoadVersionRequest, Model,
        PromoteRequest, ReloadVersionRequest, ResetTrafficRequest, RollbackRequest, SetAliasRequest, SetWeightsRequest,
        ShiftTrafficRequest, UnloadVersionRequest, WaitReadyRequest,
    },
    error::{Error, Result},
    state::{Change, ChangeContext},
    terminal::is_unprintable,
    traffic::{Resolver, Selector, VersionName, Weights, check_alias},
};

/// Time that a client waits that does not say how long, and that any client waits at most.
const DEFAULT_WAIT: Duration = Duration::from_secs(60);
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// Bytes of an actor and of a reason at most: they are kept for long, and stand in every history.
const MAX_ACTOR_BYTES: usize = 256;
const MAX_REASON_BYTES: usize = 1024;

/// A change of a model with its terms, out of a request that has them.
macro_rules! changed {
    ($admin:ident, $request:ident, $change:expr) => {{
        let (actor, reason) = ($request.actor, $request.reason);
        $admin.change($request.model, $change, $request.expected_revision, actor, reason).await
    }};
}

impl Admin {
    pub(super) async fn list_models(self, _: ListModelsRequest) -> Result<ListModelsResponse> {
        let (revision, statuses) = self.run_blocking(|control| (control.revision(), control.models())).await?;
        Ok(ListModelsResponse { revision, models: models(statuses) })
    }

    pub(super) async fn get_model(self, request: GetModelRequest) -> Result<Model> {
        self.run_blocking(move |control| control.model(&request.model)).await?.map(model)
    }

    pub(super) async fn load_version(self, request: LoadVersionRequest) -> Result<ChangeResponse> {
        let version = optional_version(&request.model, request.version, &request.version_alias)?;
        changed!(self, request, move |names| Ok(Change::Load(number(names, version.as_ref())?)))
    }

    pub(super) async fn unload_version(self, request: UnloadVersionRequest) -> Result<ChangeResponse> {
        let version = optional_version(&request.model, request.version, &request.version_alias)?;
        let change = if request.force { Change::ForceUnload } else { Change::Unload };
        changed!(self, request, move |names| Ok(change(number(names, version.as_ref())?)))
    }

    pub(super) async fn reload_version(self, request: ReloadVersionRequest) -> Result<ChangeResponse> {
        let version = optional_version(&request.model, request.version, &request.version_alias)?;
        changed!(self, request, move |names| Ok(Change::Reload(number(names, version.as_ref())?)))
    }

    pub(super) async fn set_weights(self, request: SetWeightsRequest) -> Result<ChangeResponse> {
        let (weights, by_alias) = (request.weights, request.alias_weights);
        some_weights(&request.model, &weights, &by_alias)?;
        let resolved = move |names: Resolver<'_>| {
            let mut all = weights.clone();
            for (alias, weight) in &by_alias {
                let version = names.version(&VersionName::Alias(alias.clone()))?;
                if all.insert(version, *weight).is_some() {
                    let why = format!("weights: version {version} has two, one by the alias '{alias}'");
                    return Err(wrong(names.model, &why));
                }
            }
            Ok(Change::SetWeights(Weights::new(all).map_err(|why| wrong(names.model, &why))?))
        };
        changed!(self, request, resolved)
    }

    pub(super) async fn shift_traffic(self, request: ShiftTrafficRequest) -> Result<ChangeResponse> {
        let from = version(&request.model, "from", request.from, &request.from_alias)?;
        let to = version(&request.model, "to", request.to, &request.to_alias)?;
        let points = request.points;
        let resolved = move |names: Resolver<'_>| {
            Ok(Change::Shift { from: names.version(&from)?, to: names.version(&to)?, points })
        };
        changed!(self, request, resolved)
    }

    pub(super) async fn set_alias(self, request: SetAliasRequest) -> Result<ChangeResponse> {
        let version = version(&request.model, "version", request.version, &request.version_alias)?;
        let alias = request.alias;
        check_alias(&alias).map_err(|why| wrong(&request.model, &why))?;
        let resolved =
            move |names: Resolver<'_>| Ok(Change::SetAlias { alias: alias.clone(), version: names.version(&version)? });
        changed!(self, request, resolved)
    }

    pub(super) async fn drop_alias(self, request: DropAliasRequest) -> Result<ChangeResponse> {
        let alias = request.alias;
        changed!(self, request, move |_| Ok(Change::DropAlias(alias.clone())))
    }

    pub(super) async fn promote(self, request: PromoteRequest) -> Result<ChangeResponse> {
        let version = version(&request.model, "version", request.version, &request.version_alias)?;
        changed!(self, request, move |names| Ok(Change::Promote(names.version(&version)?)))
    }

    pub(super) async fn rollback(self, request: RollbackRequest) -> Result<ChangeResponse> {
        let change = request.to_revision.map_or(Change::Rollback, Change::RollbackTo);
        changed!(self, request, move |_| Ok(change.clone()))
    }

    pub(super) async fn abort(self, request: AbortRequest) -> Result<ChangeResponse> {
        changed!(self, request, |_| Ok(Change::Abort))
    }

    pub(super) async fn reset_traffic(self, request: ResetTrafficRequest) -> Result<ChangeResponse> {
        changed!(self, request, |_| Ok(Change::ResetTraffic))
    }

    pub(super) async fn get_history(self, request: GetHistoryRequest) -> Result<GetHistoryResponse> {
        let records = self.run_blocking(move |control| control.history(&request.model)).await??;
        Ok(GetHistoryResponse { records: history(records) })
    }

    pub(super) async fn explain(self, request: ExplainRequest) -> Result<ExplainResponse> {
        let selector = Selector::parse(&request.model, &request.version)?;
        let ExplainRequest { model, key, .. } = request;
        let table = self.control.router.table();
        let explained = table.explain(&model, &selector, key.as_ref().map(|key| key.as_bytes()));
        let explained = explained.map_err(|error| self.with_reasons(error, &model))?;
        Ok(explanation(&model, &selector, key.as_deref(), explained))
    }

    pub(super) async fn wait_ready(self, request: WaitReadyRequest) -> Result<Model> {
        let version = optional_version(&request.model, request.version, &request.version_alias)?;
        let limit = wait_limit(&request)?;
        let version = if let Some(version @ VersionName::Alias(_)) = version {
            let model = request.model.clone();
            let status = self.run_blocking(move |control| control.model(&model)).await??;
            Some(Resolver { model: &request.model, traffic: &status.traffic }.version(&version)?)
        } else {
            request.version
        };
        let _place = self.long_call()?;
        self.unless_draining(self.control.wait_ready(&request.model, version, limit)).await.map(model)
    }

    /// An error with the reasons why the model's versions are not ready, which the table does not have.
    fn with_reasons(&self, error: Error, model: &str) -> Error {
        let Ok(status) = self.control.model(model) else { return error };
        let versions = status.versions.into_iter().filter_map(|version| {
            let problem = version.problem?;
            Some(format!("version {}: {problem}", version.version))
        });
        let reasons: Vec<String> = status.problem.into_iter().chain(versions).collect();
        if reasons.is_empty() {
            return error;
        }
        Error::new(error.code(), format!("{error}; {}", reasons.join("; ")))
    }

    async fn change(
        &self,
        model: String,
        asked: impl Fn(Resolver<'_>) -> Result<Change> + Send + 'static,
        expected_revision: Option<u64>,
        actor: String,
        reason: String,
    ) -> Result<ChangeResponse> {
        for (field, text, longest) in [("actor", &actor, MAX_ACTOR_BYTES), ("reason", &reason, MAX_REASON_BYTES)] {
            if text.len() > longest {
                let why = format!("{field} may have {longest} bytes, got {}", text.len());
                return Err(wrong(&model, &why));
            }
            // Others read it on their terminals.
            let may_stand = |character| field == "reason" && matches!(character, '\n' | '\t');
            let is_wrong = |character: &char| is_unprintable(*character) && !may_stand(*character);
            if let Some(character) = text.chars().find(is_wrong) {
                return Err(wrong(&model, &format!("{field} must be text, got the character {character:?} in it")));
            }
        }
        let actor = match &self.caller {
            Some(caller) if actor.is_empty() || actor == **caller => caller.to_string(),
            // The actor that the caller names, and the bearer of the token.
            Some(caller) => format!("{actor} (token of {caller})"),
            None => actor,
        };
        let terms = ChangeContext { expected_revision, actor, reason };
        self.run_blocking(move |control| control.change(&model, asked, terms)).await?.map(change_response)
    }
}

fn wrong(model: &str, why: &str) -> Error {
    Error::invalid(format!("model '{model}': {why}"))
}

fn version(model: &str, field: &str, number: u64, alias: &str) -> Result<VersionName> {
    match (number, alias) {
        (0, "") => {
            let why =
                format!("{field}: expected a version, an integer > 0 (or an alias as {field}_alias), got 0 or nothing");
            Err(wrong(model, &why))
        }
        (number, "") => Ok(VersionName::Number(number)),
        (0, alias) => {
            check_alias(alias).map_err(|why| wrong(model, &format!("{field}_alias: {why}")))?;
            Ok(VersionName::Alias(alias.to_owned()))
        }
        (number, alias) => {
            let why = format!("expected either {field} or {field}_alias, got both: {number} and '{alias}'");
            Err(wrong(model, &why))
        }
    }
}

fn optional_version(model: &str, number: Option<u64>, alias: &str) -> Result<Option<VersionName>> {
    if number.is_none() && alias.is_empty() {
        return Ok(None);
    }
    version(model, "version", number.unwrap_or(0), alias).map(Some)
}

/// The version that a name stands for, where there is a name.
fn number(names: Resolver<'_>, version: Option<&VersionName>) -> Result<Option<u64>> {
    version.map(|version| names.version(version)).transpose()
}

/// Refuses weights that can't be right, whatever aliases point to.
fn some_weights(model: &str, weights: &BTreeMap<u64, f64>, by_alias: &BTreeMap<String, f64>) -> Result<()> {
    if weights.is_empty() && by_alias.is_empty() {
        return Err(wrong(
            model,
            "weights: expected the weight of a version at least, such as {\"2\": 95, \"3\": 5}, got none",
        ));
    }
    by_alias.keys().try_for_each(|alias| check_alias(alias).map_err(|why| wrong(model, &why)))?;
    if by_alias.is_empty() {
        Weights::new(weights.clone()).map_err(|why| wrong(model, &why))?;
    }
    Ok(())
}

fn wait_limit(request: &WaitReadyRequest) -> Result<Duration> {
    if request.timeout.is_empty() {
        return Ok(DEFAULT_WAIT);
    }
    let expected = |why: &dyn std::fmt::Display| {
        wrong(
            &request.model,
            &format!("timeout: expected a duration such as 30s or 2m, got '{}': {why}", request.timeout),
        )
    };
    let limit = humantime::parse_duration(&request.timeout).map_err(|error| expected(&error))?;
    if limit > MAX_WAIT { Err(expected(&"1h is the longest")) } else { Ok(limit) }
}
