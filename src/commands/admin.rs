//! Commands that show and change the state of a running server by its admin API over HTTP, and print answers for people.

mod call;
mod change;
mod explain;
mod show;
mod table;
mod watch;

use super::{
    cli::admin::{Admin, Alias, Server, Traffic, split_version},
    output::print,
};
use crate::api::proto::admin::{GetHistoryResponse, ListModelsResponse, Model};
use call::{Api, parse, path_of, text};

/// Asks a server and prints its answer.
///
/// # Errors
/// For people: the server can't be reached, it refuses the call, or the state that the command waits for is not reached.
pub fn run(command: &Admin) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the runtime can't be started: {error}"))?;
    runtime.block_on(answer(command))
}

async fn answer(command: &Admin) -> Result<(), String> {
    match command {
        Admin::Models { model, server } => {
            let shown = if model.is_some() { show::model } else { show::models };
            show(server, model.as_deref(), shown).await
        }
        Admin::Traffic(Traffic::Show { model, server }) => show(server, model.as_deref(), show::traffic).await,
        Admin::Alias(Alias::Show { model, server }) => show(server, model.as_deref(), show::aliases).await,
        Admin::Traffic(Traffic::Set { model, weights, terms, server }) => {
            change::set_weights(server, model, weights, terms).await
        }
        Admin::Traffic(Traffic::Shift { model, from, to, points, terms, server }) => {
            change::shift(server, model, (from, to, *points), terms).await
        }
        Admin::Traffic(Traffic::Reset { model, terms, server }) => {
            change::plain(server, model, "traffic/reset", terms).await
        }
        Admin::Alias(Alias::Set { model, alias, version, terms, server }) => {
            change::set_alias(server, model, (alias, version), terms).await
        }
        Admin::Alias(Alias::Drop { model, alias, terms, server }) => {
            change::drop_alias(server, model, alias, terms).await
        }
        Admin::Promote { model, version, terms, server } => change::promote(server, model, version, terms).await,
        Admin::Rollback { model, to, terms, server } => change::rollback(server, model, *to, terms).await,
        Admin::Abort { model, terms, server } => change::plain(server, model, "abort", terms).await,
        Admin::Unload { model, version, force, terms, server } => {
            let (model, version) = split_version(model, version.as_ref());
            change::unload(server, &model, (version.as_ref(), *force), terms).await
        }
        Admin::Load(loading) => change::load(loading, "load").await,
        Admin::Reload(loading) => change::load(loading, "reload").await,
        Admin::History { model, server } => {
            let answer = Api::new(server)?.get(&format!("{}/history", path_of(model))).await?;
            if server.json {
                return print(text(&answer));
            }
            let GetHistoryResponse { records } = parse(&answer)?;
            print(show::history(model, &records))
        }
        Admin::Explain { model, key, version, alias, server } => {
            let named = version.as_ref().map(ToString::to_string).or_else(|| alias.clone());
            explain::explain(server, model, key.as_deref(), named.as_deref()).await
        }
        Admin::Watch { model, server } => watch::watch(server, model.as_deref()).await,
    }
}

/// Prints one model or all.
async fn show(server: &Server, model: Option<&str>, shown: fn(&[Model]) -> String) -> Result<(), String> {
    let path = model.map_or("/admin/v1/models".into(), path_of);
    let answer = Api::new(server)?.get(&path).await?;
    if server.json {
        return print(text(&answer));
    }
    let models = match model {
        Some(_) => vec![parse(&answer)?],
        None => parse::<ListModelsResponse>(&answer)?.models,
    };
    print(shown(&models))
}
