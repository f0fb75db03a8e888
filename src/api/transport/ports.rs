//! The ports of the server, for those who have come to the wrong one.

use std::{net::SocketAddr, sync::OnceLock};

/// Addresses of the ports by protocol, once all are open.
#[derive(Debug, Default)]
pub struct Ports(OnceLock<Vec<(&'static str, SocketAddr)>>);

impl Ports {
    /// Sets the addresses that are listened on. Later calls change nothing.
    pub fn set(&self, ports: Vec<(&'static str, SocketAddr)>) {
        let _ = self.0.set(ports);
    }

    /// Says what the port of `here` answers and which port a path belongs to, as the end of a message; empty where it belongs to
    /// none, or to this one.
    pub(in crate::api) fn advice(&self, here: &str, path: &str, is_grpc: bool) -> String {
        let right = self.right(here, path, is_grpc);
        right.map(|right| format!("; this port answers {}, {right}", content(here))).unwrap_or_default()
    }

    /// Names the port that a path belongs to, where that is another than that of `here`.
    pub(in crate::api) fn right(&self, here: &str, path: &str, is_grpc: bool) -> Option<String> {
        let protocol = match path {
            _ if path.starts_with("/admin/") || path.starts_with("/onnxd.admin.") => "admin",
            "/metrics" => "metrics",
            _ if is_grpc => "grpc",
            _ if path.starts_with("/v2") => "http",
            _ => return None,
        };
        (protocol != here).then(|| self.place(protocol))
    }

    /// Names the port of a protocol.
    pub(in crate::api) fn place(&self, protocol: &str) -> String {
        let ports = self.0.get().map(Vec::as_slice).unwrap_or_default();
        let content = content(protocol);
        match ports.iter().find(|(name, _)| *name == protocol) {
            Some((_, address)) => format!("port {} answers {content}", address.port()),
            None => format!("and none answers {content} (--{protocol} is off)"),
        }
    }
}

/// Description of the answers of a protocol's port.
fn content(protocol: &str) -> &'static str {
    match protocol {
        "http" => "inferences over HTTP",
        "grpc" => "gRPC",
        "metrics" => "metrics",
        _ => "the admin API",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_names_the_port_that_serves_the_request() {
        let ports = Ports::default();
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        ports.set(vec![("http", address(8000)), ("grpc", address(8001)), ("admin", address(8003))]);
        for (here, path, is_grpc, expected) in [
            (
                "http",
                "/admin/v1/models",
                false,
                "; this port answers inferences over HTTP, port 8003 answers the admin API",
            ),
            ("grpc", "/v2/models/a", false, "; this port answers gRPC, port 8000 answers inferences over HTTP"),
            (
                "admin",
                "/inference.GRPCInferenceService/ModelInfer",
                true,
                "; this port answers the admin API, port 8001 answers gRPC",
            ),
            (
                "http",
                "/metrics",
                false,
                "; this port answers inferences over HTTP, and none answers metrics (--metrics is off)",
            ),
            ("http", "/v2/models", false, ""),
            ("admin", "/", false, ""),
        ] {
            assert_eq!(ports.advice(here, path, is_grpc), expected, "{path}");
        }
    }
}
