//! Log lines about the readiness of the server, with a first command to try.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::{
    api::{Context, ServerPhase},
    router::Table,
    url::percent_encoded,
};

/// Target of the lines: they are about the server as a whole.
const TARGET: &str = "onnxd::server";

/// Logs the readiness of the server after the first loads, a command to try then, and every change until the server drains.
pub(super) async fn report(mut context: Context, http: Option<SocketAddr>) {
    let mut tables = context.router.changes();
    let mut reported: Option<bool> = None;
    loop {
        // Marked as seen before the state is read: a change in between wakes the next wait.
        let phase = *context.phase.borrow_and_update();
        tables.mark_unchanged();
        match phase {
            ServerPhase::Draining => return,
            ServerPhase::Starting => {}
            ServerPhase::Serving => {
                let why = context.not_ready();
                if reported != Some(why.is_none()) {
                    match &why {
                        None => tracing::info!(target: TARGET, "ready"),
                        Some(why) => tracing::warn!(
                            target: TARGET,
                            reason = why,
                            hint = "the log and `onnxd models` say what is wrong; with --ready any what serves is enough",
                            "not ready"
                        ),
                    }
                    if let (None, Some(command)) = (reported, command(&context.router.table(), http)) {
                        tracing::info!(target: TARGET, %command, "first command to try");
                    }
                    reported = Some(why.is_none());
                }
            }
        }
        let ended = tokio::select! {
            changed = context.phase.changed() => changed.is_err(),
            changed = tables.changed() => changed.is_err(),
        };
        if ended {
            return;
        }
    }
}

/// Shell command that requests the metadata of a model that serves; `None` if no model serves, or if there is no HTTP port.
fn command(table: &Table, http: Option<SocketAddr>) -> Option<String> {
    let serving = table.models.iter().filter(|(_, model)| model.ready().next().is_some());
    let model = serving.map(|(name, _)| name).min()?;
    Some(format!("curl -s http://{}/v2/models/{}", reachable(http?), percent_encoded(model)))
}

/// Address at which this machine reaches a port.
fn reachable(bound: SocketAddr) -> String {
    let port = bound.port();
    match bound.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED | Ipv4Addr::LOCALHOST) | IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
            format!("localhost:{port}")
        }
        _ => bound.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reachable_address_replaces_unspecified_hosts() {
        for (bound, expected) in [
            ("0.0.0.0:8000", "localhost:8000"),
            ("[::]:8000", "localhost:8000"),
            ("127.0.0.1:81", "localhost:81"),
            ("[::1]:81", "[::1]:81"),
            ("10.1.2.3:80", "10.1.2.3:80"),
        ] {
            assert_eq!(reachable(bound.parse().unwrap()), expected);
        }
        assert_eq!(command(&Table::default(), "0.0.0.0:8000".parse().ok()), None);
    }
}
