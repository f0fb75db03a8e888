//! `onnxd watch`: prints events of the admin API as they happen.

use http_body_util::BodyExt;
use std::io::{self, Write as _};

use super::{
    call::{Api, parse},
    show::{moment, weights},
    table::painted,
};
use crate::{
    api::proto::admin::{Event, TrafficEvent, VersionEvent},
    commands::{
        cli::admin::ServerArgs,
        output::{is_coloured, remark},
    },
    terminal::escape,
    url::percent_encoded,
};

pub(super) async fn watch(server: &ServerArgs, model: Option<&str>) -> Result<(), String> {
    let api = Api::new(server)?;
    let query = model.map(|model| format!("?model={}", percent_encoded(model))).unwrap_or_default();
    let mut stream = api.follow(&format!("/admin/v1/watch{query}")).await?;
    let mut left = Vec::new();
    while let Some(frame) = stream.frame().await {
        let frame = frame.map_err(|error| api.client.failed(&error))?;
        left.extend_from_slice(&frame.into_data().unwrap_or_default());
        while let Some(end) = left.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = left.drain(..=end).collect();
            let Some(data) = line.trim_ascii_end().strip_prefix(b"data: ") else { continue };
            let text = if server.json { format!("{}\n", String::from_utf8_lossy(data)) } else { shown(&parse(data)?) };
            if !write(&text)? {
                return Ok(());
            }
        }
    }
    remark(&"the server has ended the stream: it ends, or has been asked to");
    Ok(())
}

/// Writes to stdout; false if the reader has closed it.
fn write(text: &str) -> Result<bool, String> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).map_err(|error| format!("stdout: {error}")),
    }
}

/// Formats an event as a line, or as nothing.
fn shown(event: &Event) -> String {
    let what = match (event.kind.as_str(), &event.version, &event.traffic) {
        ("begin" | "current", ..) => escape(&event.reason),
        (_, Some(version), _) => of_version(version),
        (_, _, Some(traffic)) => of_traffic(traffic),
        (kind, ..) => escape(kind),
    };
    let (time, model) = (moment(&event.time), escape(&event.model));
    match event.kind.as_str() {
        "begin" => format!("{time}  {what}\n"),
        "current" => format!("{time}  that is how it is now\n"),
        _ => format!("{time}  {model} {what}\n"),
    }
}

fn of_version(event: &VersionEvent) -> String {
    let state = if is_coloured() { painted(&event.state) } else { escape(&event.state) };
    let generation = event.generation.map(|generation| format!(" (generation {generation})")).unwrap_or_default();
    let reason = event.reason.as_ref().map(|reason| format!(": {}", escape(reason))).unwrap_or_default();
    format!("version {} {state}{generation}{reason}", event.version)
}

fn of_traffic(event: &TrafficEvent) -> String {
    let now = event.traffic.clone().unwrap_or_default();
    let aliases = now.aliases.iter().map(|(alias, version)| format!(" {}={version}", escape(alias)));
    let aliases: String = aliases.collect();
    let actor = if event.actor.is_empty() { String::new() } else { format!(" by {}", escape(&event.actor)) };
    let reason = if event.reason.is_empty() { String::new() } else { format!(": {}", escape(&event.reason)) };
    format!("traffic weights {}{aliases}{actor}{reason}", weights(&now))
}
