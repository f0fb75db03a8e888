//! Checks the ports that a server would open.

use serde_json::json;
use std::net::TcpListener;

use super::report::Finding;
use crate::{
    config::Listen,
    server::{
        ServerConfig,
        addresses::{guarded, ports, unbound},
    },
};

/// Opens the ports as a server would, and closes them again.
pub(super) fn examine(config: &ServerConfig) -> Vec<Finding> {
    // All ports are open at once: two settings may name the same port.
    let mut open = Vec::new();
    let mut findings = Vec::new();
    for (protocol, configured) in ports(&config.ports) {
        let finding = |text: String, free: Option<bool>| {
            // A server's message begins with the protocol, which is the finding's name here.
            let text = text.strip_prefix(protocol).and_then(|text| text.strip_prefix(": ")).unwrap_or(&text);
            Finding::ok(protocol, text, json!({ "address": configured.to_string(), "free": free }))
        };
        let Listen::At(address) = configured else {
            findings.push(finding("off".into(), None));
            continue;
        };
        let bound = TcpListener::bind(address).and_then(|listener| Ok((listener.local_addr()?.ip(), listener)));
        findings.push(match bound {
            Err(error) => finding(unbound(protocol, address, &error), Some(false)).problem(),
            Ok((ip, listener)) => {
                open.push(listener);
                match guarded(protocol, address, ip, &config.admin) {
                    Ok(()) => finding(format!("{address} is free"), Some(true)),
                    Err(why) => finding(why, Some(true)).problem(),
                }
            }
        });
    }
    let has_none = config.ports.http == Listen::Off && config.ports.grpc == Listen::Off;
    if has_none && let Some(http) = findings.first_mut() {
        *http = http.clone().warning("so is grpc: nobody can ask for inferences");
    }
    findings
}
