//! Every call, once for both protocols: decode, call one function, encode.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Admin,
    convert::{change_response, explanation, history, model, models},
    proto::{
        ChangeResponse, DropAliasRequest, ExplainRequest, ExplainResponse, GetHistoryRequest, GetHistoryResponse,
        GetModelRequest, ListModelsRequest, ListModelsResponse, LoadVersionRequest, Model, PromoteRequest,
        ReloadVersionRequest, RollbackRequest, SetAliasRequest, SetWeightsRequest, ShiftTrafficRequest,
        UnloadVersionRequest, WaitReadyRequest,
    },
};
use crate::{
    desired::{Change, Terms},
    error::{Error, Result},
    printable::is_unprintable,
    traffic::{Selector, Weights, check_alias},
};

/// How long a client waits that does not say how long, and any client at most.
const WAIT: Duration = Duration::from_secs(60);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Bytes of an actor and of a reason at most: they are kept for long, and told with every history.
const LONGEST_ACTOR: usize = 256;
const LONGEST_REASON: usize = 1024;

/// A change of a model with its terms, out of a request that has them.
macro_rules! changed {
    ($admin:ident, $request:ident, $change:expr) => {{
        let change = $change;
        let (actor, reason) = ($request.actor, $request.reason);
        $admin.change($request.model, change, $request.expected_revision, actor, reason).await
    }};
}

impl Admin {
    pub(super) async fn list_models(self, _: ListModelsRequest) -> Result<ListModelsResponse> {
        let (revision, statuses) = self.aside(|control| (control.revision(), control.models())).await?;
        Ok(ListModelsResponse { revision, models: models(statuses) })
    }

    pub(super) async fn get_model(self, request: GetModelRequest) -> Result<Model> {
        self.aside(move |control| control.model(&request.model)).await?.map(model)
    }

    pub(super) async fn load_version(self, request: LoadVersionRequest) -> Result<ChangeResponse> {
        changed!(self, request, Change::Load(optional_version(&request.model, request.version)?))
    }

    pub(super) async fn unload_version(self, request: UnloadVersionRequest) -> Result<ChangeResponse> {
        changed!(self, request, Change::Unload(optional_version(&request.model, request.version)?))
    }

    pub(super) async fn reload_version(self, request: ReloadVersionRequest) -> Result<ChangeResponse> {
        changed!(self, request, Change::Reload(optional_version(&request.model, request.version)?))
    }

    pub(super) async fn set_weights(self, mut request: SetWeightsRequest) -> Result<ChangeResponse> {
        let weights = std::mem::take(&mut request.weights);
        changed!(self, request, Change::SetWeights(some_weights(&request.model, weights)?))
    }

    pub(super) async fn shift_traffic(self, request: ShiftTrafficRequest) -> Result<ChangeResponse> {
        let from = version(&request.model, "from", request.from)?;
        let to = version(&request.model, "to", request.to)?;
        changed!(self, request, Change::Shift { from, to, points: request.points })
    }

    pub(super) async fn set_alias(self, mut request: SetAliasRequest) -> Result<ChangeResponse> {
        let version = version(&request.model, "version", request.version)?;
        let alias = std::mem::take(&mut request.alias);
        check_alias(&alias).map_err(|why| wrong(&request.model, &why))?;
        changed!(self, request, Change::SetAlias { alias, version })
    }

    pub(super) async fn drop_alias(self, mut request: DropAliasRequest) -> Result<ChangeResponse> {
        let alias = std::mem::take(&mut request.alias);
        changed!(self, request, Change::DropAlias(alias))
    }

    pub(super) async fn promote(self, request: PromoteRequest) -> Result<ChangeResponse> {
        changed!(self, request, Change::Promote(version(&request.model, "version", request.version)?))
    }

    pub(super) async fn rollback(self, request: RollbackRequest) -> Result<ChangeResponse> {
        changed!(self, request, Change::Rollback)
    }

    pub(super) async fn get_history(self, request: GetHistoryRequest) -> Result<GetHistoryResponse> {
        let records = self.aside(move |control| control.history(&request.model)).await??;
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
        let version = optional_version(&request.model, request.version)?;
        let limit = wait_limit(&request)?;
        let _place = self.long_call()?;
        self.unless_draining(self.control.wait_ready(&request.model, version, limit)).await.map(model)
    }

    /// An error with what the table does not tell: why the model's versions are not ready.
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
        change: Change,
        expected_revision: Option<u64>,
        actor: String,
        reason: String,
    ) -> Result<ChangeResponse> {
        for (field, text, longest) in [("actor", &actor, LONGEST_ACTOR), ("reason", &reason, LONGEST_REASON)] {
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
            // Who they say they are, and who the token says they are.
            Some(caller) => format!("{actor} (token of {caller})"),
            None => actor,
        };
        let terms = Terms { expected_revision, actor, reason };
        self.aside(move |control| control.change(&model, change, terms)).await?.map(change_response)
    }
}

fn wrong(model: &str, why: &str) -> Error {
    Error::invalid(format!("model '{model}': {why}"))
}

fn version(model: &str, field: &str, number: u64) -> Result<u64> {
    if number == 0 {
        Err(wrong(model, &format!("{field}: expected a version, an integer > 0, got 0 or nothing")))
    } else {
        Ok(number)
    }
}

fn optional_version(model: &str, number: Option<u64>) -> Result<Option<u64>> {
    number.map(|number| version(model, "version", number)).transpose()
}

fn some_weights(model: &str, weights: BTreeMap<u64, f64>) -> Result<Weights> {
    if weights.is_empty() {
        return Err(wrong(
            model,
            "weights: expected the weight of a version at least, such as {\"2\": 95, \"3\": 5}, got none",
        ));
    }
    Weights::new(weights).map_err(|why| wrong(model, &why))
}

fn wait_limit(request: &WaitReadyRequest) -> Result<Duration> {
    if request.timeout.is_empty() {
        return Ok(WAIT);
    }
    let expected = |why: &dyn std::fmt::Display| {
        wrong(
            &request.model,
            &format!("timeout: expected a duration such as 30s or 2m, got '{}': {why}", request.timeout),
        )
    };
    let limit = humantime::parse_duration(&request.timeout).map_err(|error| expected(&error))?;
    if limit > LONGEST_WAIT { Err(expected(&"1h is the longest")) } else { Ok(limit) }
}
