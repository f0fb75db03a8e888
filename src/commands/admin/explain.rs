//! `onnxd explain`: shows the version that a request would get, and why.

use super::{
    call::{Api, parse, path_of, text},
    show::percent,
    table::TextTable,
};
use crate::{
    api::proto::admin::ExplainResponse,
    commands::{cli::admin::ServerArgs, output::print},
    terminal::escape,
    url::percent_encoded,
};

pub(super) async fn explain(
    server: &ServerArgs,
    model: &str,
    key: Option<&str>,
    named: Option<&str>,
) -> Result<(), String> {
    let fields = [("key", key), ("version", named)];
    let fields = fields.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", percent_encoded(value?))));
    let query = fields.collect::<Vec<_>>().join("&");
    let answer = Api::new(server)?.get(&format!("{}/explain?{query}", path_of(model))).await?;
    if server.json {
        return print(text(&answer));
    }
    print(shown(&parse(&answer)?))
}

fn shown(answer: &ExplainResponse) -> String {
    let version = match answer.version {
        Some(version) => format!("version {version}"),
        None => "any version with a share".into(),
    };
    let mut table = TextTable::new(&[">VERSION", ">SHARE"]);
    for share in &answer.shares {
        table.row(vec![share.version.to_string(), percent(share.share)]);
    }
    let [model, reason, explanation] = [&answer.model, &answer.reason, &answer.explanation].map(|text| escape(text));
    format!("{model}: {version}, {reason}: {explanation}\n\n{}", table.text())
}
