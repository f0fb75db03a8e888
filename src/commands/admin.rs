//! Commands that show and change the state of a running server by its admin API over HTTP, and print answers for people.

mod call;
mod change;
mod explain;
mod show;
mod table;
mod watch;

use super::{
    cli::admin::{AdminCommand, Alias, ServerArgs, TrafficCommand, split_version},
    output::print,
};
use crate::api::proto::admin::{GetHistoryResponse, ListModelsResponse, Model};
use call::{Api, parse, path_of, text};

/// Asks a server and prints its answer.
///
/// # Errors
/// For people: the server can't be reached, it refuses the call, or the state that the command waits for is not reached.
pub fn run(command: &AdminCommand) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the runtime can't be started: {error}"))?;
    runtime.block_on(answer(command))
}

async fn answer(command: &AdminCommand) -> Result<(), String> {
    match command {
        AdminCommand::Models { model, server } => {
            let shown = if model.is_some() { show::model } else { show::models };
            show(server, model.as_deref(), shown).await
        }
        AdminCommand::Traffic(TrafficCommand::Show { model, server }) => {
            show(server, model.as_deref(), show::traffic).await
        }
        AdminCommand::Alias(Alias::Show { model, server }) => show(server, model.as_deref(), show::aliases).await,
        AdminCommand::Traffic(TrafficCommand::Set { model, weights, terms, server }) => {
            change::set_weights(server, model, weights, terms).await
        }
        AdminCommand::Traffic(TrafficCommand::Shift { model, from, to, points, terms, server }) => {
            change::shift(server, model, (from, to, *points), terms).await
        }
        AdminCommand::Traffic(TrafficCommand::Reset { model, terms, server }) => {
            change::plain(server, model, "traffic/reset", terms).await
        }
        AdminCommand::Alias(Alias::Set { model, alias, version, terms, server }) => {
            change::set_alias(server, model, (alias, version), terms).await
        }
        AdminCommand::Alias(Alias::Drop { model, alias, terms, server }) => {
            change::drop_alias(server, model, alias, terms).await
        }
        AdminCommand::Promote { model, version, terms, server } => change::promote(server, model, version, terms).await,
        AdminCommand::Rollback { model, to, terms, server } => change::rollback(server, model, *to, terms).await,
        AdminCommand::Abort { model, terms, server } => change::plain(server, model, "abort", terms).await,
        AdminCommand::Unload { model, version, force, terms, server } => {
            let (model, version) = split_version(model, version.as_ref());
            change::unload(server, &model, (version.as_ref(), *force), terms).await
        }
        AdminCommand::Load(loading) => change::load(loading, "load").await,
        AdminCommand::Reload(loading) => change::load(loading, "reload").await,
        AdminCommand::History { model, server } => {
            let answer = Api::new(server)?.get(&format!("{}/history", path_of(model))).await?;
            if server.json {
                return print(text(&answer));
            }
            let GetHistoryResponse { records } = parse(&answer)?;
            print(show::history(model, &records))
        }
        AdminCommand::Explain { model, key, version, alias, server } => {
            let named = version.as_ref().map(ToString::to_string).or_else(|| alias.clone());
            explain::explain(server, model, key.as_deref(), named.as_deref()).await
        }
        AdminCommand::Watch { model, server } => watch::watch(server, model.as_deref()).await,
    }
}

/// Prints one model or all.
async fn show(server: &ServerArgs, model: Option<&str>, shown: fn(&[Model]) -> String) -> Result<(), String> {
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
