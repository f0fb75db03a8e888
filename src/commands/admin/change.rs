//! Sends changes to the admin API, and waits for loads.

use http::Method;
use serde_json::{Map, Value, json};

use super::{
    call::{Api, body, parse, path_of, text},
    show,
};
use crate::{
    api::proto::admin::{ChangeResponse, Model, Version},
    commands::{
        cli::admin::{Loading, ServerArgs, Terms, Weight, split_version},
        output::{print, remark},
    },
    terminal::escape,
    traffic::VersionName,
    url::percent_encoded,
};

pub(super) async fn set_weights(
    server: &ServerArgs,
    model: &str,
    weights: &[Weight],
    terms: &Terms,
) -> Result<(), String> {
    let (mut by_number, mut by_alias) = (Map::new(), Map::new());
    for Weight { version, weight } in weights {
        let (map, kind) = match version {
            VersionName::Number(_) => (&mut by_number, "version"),
            VersionName::Alias(_) => (&mut by_alias, "alias"),
        };
        if map.insert(version.to_string(), json!(weight)).is_some() {
            return Err(format!("{kind} {version} has two weights"));
        }
    }
    let message = with_terms(json!({"weights": by_number, "alias_weights": by_alias}), terms);
    change(server, Method::POST, &format!("{}/weights", path_of(model)), &message).await
}

pub(super) async fn shift(
    server: &ServerArgs,
    model: &str,
    (from, to, points): (&VersionName, &VersionName, f64),
    terms: &Terms,
) -> Result<(), String> {
    let message = named(named(json!({"points": points}), "from", Some(from)), "to", Some(to));
    change(server, Method::POST, &format!("{}/shift", path_of(model)), &with_terms(message, terms)).await
}

pub(super) async fn set_alias(
    server: &ServerArgs,
    model: &str,
    (alias, version): (&str, &VersionName),
    terms: &Terms,
) -> Result<(), String> {
    let message = with_terms(named(json!({}), "version", Some(version)), terms);
    let path = format!("{}/aliases/{}", path_of(model), percent_encoded(alias));
    change(server, Method::PUT, &path, &message).await
}

pub(super) async fn drop_alias(server: &ServerArgs, model: &str, alias: &str, terms: &Terms) -> Result<(), String> {
    let message = with_terms(json!({}), terms);
    let fields = message.as_object().into_iter().flatten();
    let fields = fields.map(|(name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{name}={}", percent_encoded(&value))
    });
    let query = fields.collect::<Vec<_>>().join("&");
    let path = format!("{}/aliases/{}?{query}", path_of(model), percent_encoded(alias));
    report(server, &Api::new(server)?.ask(Method::DELETE, &path, Vec::new().into()).await?)
}

pub(super) async fn promote(
    server: &ServerArgs,
    model: &str,
    version: &VersionName,
    terms: &Terms,
) -> Result<(), String> {
    let message = with_terms(named(json!({}), "version", Some(version)), terms);
    change(server, Method::POST, &format!("{}/promote", path_of(model)), &message).await
}

pub(super) async fn rollback(server: &ServerArgs, model: &str, to: Option<u64>, terms: &Terms) -> Result<(), String> {
    let message = with_terms(json!({"to_revision": to}), terms);
    change(server, Method::POST, &format!("{}/rollback", path_of(model)), &message).await
}

/// Makes a change that takes no arguments but its conditions.
pub(super) async fn plain(server: &ServerArgs, model: &str, call: &str, terms: &Terms) -> Result<(), String> {
    change(server, Method::POST, &format!("{}/{call}", path_of(model)), &with_terms(json!({}), terms)).await
}

pub(super) async fn unload(
    server: &ServerArgs,
    model: &str,
    (version, force): (Option<&VersionName>, bool),
    terms: &Terms,
) -> Result<(), String> {
    let message = with_terms(named(json!({"force": force}), "version", version), terms);
    change(server, Method::POST, &format!("{}/unload", path_of(model)), &message).await
}

/// Requests a load or a reload, and waits for it.
pub(super) async fn load(loading: &Loading, verb: &str) -> Result<(), String> {
    let Loading { model, version, no_wait, timeout, terms, server } = loading;
    let (model, version) = split_version(model, version.as_ref());
    let mut api = Api::new(server)?;
    let message = with_terms(named(json!({}), "version", version.as_ref()), terms);
    let path = path_of(&model);
    let answer = api.ask(Method::POST, &format!("{path}/{verb}"), body(&message)).await?;
    if *no_wait {
        return report(server, &answer);
    }
    let asked: ChangeResponse = parse(&answer)?;
    warn(&asked);
    let limit = percent_encoded(&humantime::format_duration(*timeout).to_string());
    // An alias stands for the version that it pointed to at the time of the call.
    let version = asked.record.as_ref().and_then(|record| record.version);
    let named = version.map(|version| format!("&version={version}")).unwrap_or_default();
    api.client.timeout += *timeout;
    let answer = api.get(&format!("{path}/wait?timeout={limit}{named}")).await?;
    let now: Model = parse(&answer)?;
    let shown = if server.json { text(&answer) } else { show::models(std::slice::from_ref(&now)) };
    print(&shown)?;
    // A version goes on serving if its reload fails, so its generation shows whether the reload has succeeded.
    let asked = asked.model.unwrap_or_default();
    let before = |number| asked.versions.iter().find(|version| version.version == number)?.generation;
    let stayed = |now: &&Version| now.generation.is_some() && now.generation == before(now.version);
    let mut meant = now.versions.iter().filter(|now| version.is_none_or(|version| version == now.version));
    match meant.find(stayed).filter(|_| verb == "reload") {
        Some(stayed) => Err(format!(
            "model '{model}': version {} was not loaded anew{}",
            stayed.version,
            stayed.problem.as_ref().map(|why| format!(": {}", escape(why))).unwrap_or_default()
        )),
        None => Ok(()),
    }
}

async fn change(server: &ServerArgs, method: Method, path: &str, message: &Value) -> Result<(), String> {
    report(server, &Api::new(server)?.ask(method, path, body(message)).await?)
}

/// Prints the outcome of a change.
fn report(server: &ServerArgs, answer: &[u8]) -> Result<(), String> {
    let changed: ChangeResponse = parse(answer)?;
    warn(&changed);
    if server.json {
        return print(text(answer));
    }
    let (record, model) = (changed.record.unwrap_or_default(), changed.model.unwrap_or_default());
    let about_loading = matches!(record.kind.as_str(), "load" | "unload" | "reload");
    let table = if about_loading {
        show::models(std::slice::from_ref(&model))
    } else {
        show::traffic_change(&model, record.before.as_ref())
    };
    let [name, change] = [&model.name, &record.change].map(|text| escape(text));
    print(format!("{name} revision {}: {change}\n\n{table}", changed.revision))
}

fn warn(changed: &ChangeResponse) {
    changed.warnings.iter().for_each(|warning| remark(&format!("warning: {}", escape(warning))));
}

/// Adds a version to the message, by its number or its alias.
fn named(mut message: Value, field: &str, version: Option<&VersionName>) -> Value {
    match version {
        Some(VersionName::Number(number)) => message[field] = (*number).into(),
        Some(VersionName::Alias(alias)) => message[format!("{field}_alias")] = alias.as_str().into(),
        None => {}
    }
    message
}

/// Adds the actor and the conditions of a change to the message.
fn with_terms(mut message: Value, terms: &Terms) -> Value {
    message["actor"] = terms.actor.clone().unwrap_or_else(user_at_host).into();
    if let Some(reason) = &terms.reason {
        message["reason"] = reason.as_str().into();
    }
    if let Some(revision) = terms.expect_revision {
        message["expected_revision"] = revision.into();
    }
    message
}

fn user_at_host() -> String {
    let user =
        ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    format!("{}@{host}", user.as_deref().unwrap_or("unknown"))
}
