//! The addresses of a server's ports, and what is wrong with them.

use std::{io, net::IpAddr};

use crate::{commands::cli::Settings, config::Listen};

/// The ports by the protocols that they are for, in the order in which they are opened.
pub(crate) fn ports(settings: &Settings) -> [(&'static str, &Listen); 4] {
    [("http", &settings.http), ("grpc", &settings.grpc), ("metrics", &settings.metrics), ("admin", &settings.admin)]
}

/// An address can't be listened on.
pub(crate) fn unbound(protocol: &str, address: &str, error: &io::Error) -> String {
    format!("{protocol}: can't listen on {address}: {error}; choose another with --{protocol} HOST:PORT, or off")
}

/// Whether whoever reaches a port may.
///
/// # Errors
/// It is that of the admin API, and nothing keeps others from it.
pub(crate) fn guarded(protocol: &str, address: &str, bound: IpAddr, settings: &Settings) -> Result<(), String> {
    let guarded = bound.is_loopback() || settings.admin_token_file.is_some() || settings.admin_insecure;
    if protocol != "admin" || guarded {
        return Ok(());
    }
    Err(format!(
        "admin: {address} can be reached from other machines, and whoever reaches it may change what is served: have it ask for \
         a token with --admin-token-file FILE, give a loopback address such as 127.0.0.1:8003, or say --admin-insecure where \
         something else sees to who can reach it"
    ))
}
