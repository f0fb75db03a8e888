//! The server: ports and their connections, from the start to an orderly end.
//!
//! [`Server::start`] makes a server of a [`ServerConfig`]. [`run`] is the life of a process that is a server: log, signals, exit code.

mod access_log;
mod activity;
pub(crate) mod addresses;
mod backlog;
mod blocking;
mod byte_stream;
mod client_stream;
mod coarse_timer;
mod config;
mod connection;
mod connection_limit;
pub(crate) mod derived_limits;
mod half_close;
mod http1_fast_path;
mod http2_flood;
mod http2_frames;
mod http_limits;
mod io_threads;
mod log;
mod log_queue;
mod poll_once;
mod port;
mod ports;
mod readiness;
mod run;
mod scrape_gauges;
mod shutdown;
mod signals;
mod start;
#[cfg(test)]
mod stream_tests;

pub use config::{
    AccessLogConfig, AdminConfig, ClientLimits, DrainConfig, LoadConfig, ModelDefaults, PortAddresses,
    RepositoryConfig, ServerConfig,
};
pub use log::{Console, LogConfig, LogFormat, report, start as start_log};
pub use ports::{Addresses, Sockets};
pub use run::run;
pub use shutdown::Ended;
pub use start::Server;
