//! The ports of the server, for those who have come to the wrong one.

use std::{fmt::Display, net::SocketAddr, sync::OnceLock};

/// Addresses of the ports by protocol, once all are open.
#[derive(Debug, Default)]
pub struct Ports(OnceLock<Vec<(&'static str, SocketAddr)>>);

impl Ports {
    /// Sets the addresses that are listened on. Later calls change nothing.
    pub fn set(&self, ports: Vec<(&'static str, SocketAddr)>) {
        let _ = self.0.set(ports);
    }

    /// Names the port that a path belongs to, as the end of a message; empty where it belongs to none or to `here`.
    pub(super) fn advice(&self, here: &str, path: &str, is_grpc: bool) -> String {
        let (protocol, what): (_, &dyn Display) = match path {
            _ if path.starts_with("/admin/") || path.starts_with("/onnxd.admin.") => ("admin", &"the admin API"),
            "/metrics" => ("metrics", &"metrics"),
            _ if is_grpc => ("grpc", &"gRPC"),
            _ if path.starts_with("/v2") => ("http", &"inferences over HTTP"),
            _ => return String::new(),
        };
        if protocol == here { String::new() } else { format!("; {}", self.place(protocol, what)) }
    }

    /// Names the port of a protocol.
    pub(super) fn place(&self, protocol: &str, what: impl Display) -> String {
        let ports = self.0.get().map(Vec::as_slice).unwrap_or_default();
        match ports.iter().find(|(name, _)| *name == protocol) {
            Some((_, address)) => format!("port {} answers {what}", address.port()),
            None => format!("{what}: --{protocol} HOST:PORT opens a port for it, which is off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_names_the_port_of_what_was_asked_for() {
        let ports = Ports::default();
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        ports.set(vec![("http", address(8000)), ("grpc", address(8001)), ("admin", address(8003))]);
        for (here, path, is_grpc, expected) in [
            ("http", "/admin/v1/models", false, "; port 8003 answers the admin API"),
            ("grpc", "/v2/models/a", false, "; port 8000 answers inferences over HTTP"),
            ("http", "/inference.GRPCInferenceService/ModelInfer", true, "; port 8001 answers gRPC"),
            ("http", "/metrics", false, "; metrics: --metrics HOST:PORT opens a port for it, which is off"),
            ("http", "/v2/models", false, ""),
            ("admin", "/", false, ""),
        ] {
            assert_eq!(ports.advice(here, path, is_grpc), expected, "{path}");
        }
    }
}
