//! Checks of the addresses of a server's ports.

use std::{io, net::IpAddr};

use super::config::{AdminConfig, PortAddresses};
use crate::config::Listen;

/// The ports by the protocols that they are for, in the order in which they are opened.
pub(crate) fn ports(addresses: &PortAddresses) -> [(&'static str, &Listen); 4] {
    [("http", &addresses.http), ("grpc", &addresses.grpc), ("metrics", &addresses.metrics), ("admin", &addresses.admin)]
}

/// Error message: an address can't be listened on.
pub(crate) fn unbound(protocol: &str, address: &str, error: &io::Error) -> String {
    format!("{protocol}: can't listen on {address}: {error}; choose another with --{protocol} HOST:PORT, or off")
}

/// Checks that the admin API requires a token if other machines can reach it.
///
/// # Errors
/// Nothing keeps other machines from the admin API.
pub(crate) fn guarded(protocol: &str, address: &str, bound: IpAddr, admin: &AdminConfig) -> Result<(), String> {
    let guarded = bound.is_loopback() || admin.token_file.is_some() || admin.is_insecure;
    if protocol != "admin" || guarded {
        return Ok(());
    }
    Err(format!(
        "admin: {address} can be reached from other machines, and whoever reaches it may change what is served: have it ask for \
         a token with --admin-token-file FILE, give a loopback address such as 127.0.0.1:8003, or say --admin-insecure where \
         something else sees to who can reach it"
    ))
}
