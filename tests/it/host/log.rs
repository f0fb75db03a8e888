//! Stderr that nobody reads, and SIGHUP.

use http::StatusCode;
use serde_json::Value;
use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, ChildStderr, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

use super::{assert_infers, repository};
use crate::support::{
    client::{get, metric},
    h2,
    server::{Server, WAIT_TIMEOUT, eventually, onnxd},
};

/// A server whose log is read until it is ready, and then no more.
struct Unread {
    child: Child,
    log: BufReader<ChildStderr>,
    addresses: HashMap<String, SocketAddr>,
    _folders: [TempDir; 2],
}

impl Unread {
    fn start() -> Self {
        let (repository, state) = (repository(), TempDir::new().unwrap());
        let mut command = onnxd();
        command.arg("serve").arg(repository.path()).arg("--state-dir").arg(state.path());
        for port in ["--http", "--grpc", "--metrics", "--admin"] {
            command.args([port, "127.0.0.1:0"]);
        }
        command.args(["--log-format", "json", "--log-level", "info,h2=trace"]);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut server = Unread { child, log, addresses: HashMap::new(), _folders: [repository, state] };
        loop {
            let line = line(&mut server.log);
            if line["message"] == "listening" {
                let address = line["address"].as_str().unwrap().parse().unwrap();
                server.addresses.insert(line["protocol"].as_str().unwrap().to_owned(), address);
            } else if line["message"] == "ready" && line["target"] == "onnxd::server" {
                return server;
            }
        }
    }

    async fn dropped(&self) -> f64 {
        let text = get(self.addresses["metrics"], "/metrics").await.body;
        let text = std::str::from_utf8(&text).unwrap().to_owned();
        let line = text.lines().find(|line| line.starts_with("onnxd_log_lines_dropped_total ")).unwrap();
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    /// Has the server log until its queue is full.
    async fn fill(&self) {
        let address = self.addresses["http"];
        let noise = tokio::task::spawn_blocking(move || {
            let mut connection = h2::Connection::open(address);
            let head = h2::head("GET", "/v2/health/live", &[]);
            for number in 0..2_000 {
                let flags = h2::END_HEADERS | h2::END_STREAM;
                let request = h2::frame(h2::HEADERS, flags, 2 * number + 1, &head);
                std::io::Write::write_all(&mut connection.stream, &request).unwrap();
                connection.read_until(h2::HEADERS).unwrap();
            }
        });
        noise.await.unwrap();
        eventually("lines are dropped", async || self.dropped().await > 0.0).await;
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn line(log: &mut impl BufRead) -> Value {
    let mut line = String::new();
    assert!(log.read_line(&mut line).unwrap() > 0, "the log ended");
    serde_json::from_str(&line).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn full_stderr_pipe_stops_nothing() {
    let mut server = Unread::start();
    server.fill().await;
    // Everything answers while nobody reads.
    for (port, path) in [("http", "/v2/health/ready"), ("admin", "/admin/v1/models"), ("metrics", "/metrics")] {
        assert_eq!(get(server.addresses[port], path).await.status, StatusCode::OK, "{path}");
    }
    // Once the log is read again it counts what is missing.
    let dropped = tokio::task::block_in_place(|| {
        loop {
            let line = line(&mut server.log);
            if line["target"] == "onnxd::server::log" {
                return line["lines"].as_f64().unwrap();
            }
        }
    });
    assert!(dropped > 0.0 && dropped <= server.dropped().await, "{dropped}");
}

#[tokio::test(flavor = "multi_thread")]
async fn server_ends_though_nobody_reads_its_log() {
    let mut server = Unread::start();
    server.fill().await;
    let id = server.child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let since = Instant::now();
    let status = loop {
        if let Some(status) = server.child.try_wait().unwrap() {
            break status;
        }
        assert!(since.elapsed() < WAIT_TIMEOUT, "the server does not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_stderr_pipe_stops_nothing() {
    let mut server = Unread::start();
    // The reader of the log ends.
    drop(std::mem::replace(&mut server.log, BufReader::new(empty_stderr())));
    server.fill().await;
    assert_eq!(get(server.addresses["http"], "/v2/health/ready").await.status, StatusCode::OK);
}

/// The stderr of a process that says nothing.
fn empty_stderr() -> ChildStderr {
    let mut child = std::process::Command::new("true").stderr(Stdio::piped()).spawn().unwrap();
    let stderr = child.stderr.take().unwrap();
    child.wait().unwrap();
    stderr
}

#[tokio::test(flavor = "multi_thread")]
async fn hangup_ends_nothing() {
    let repository = repository();
    let server = Server::start(repository.path());
    server.signal("HUP");
    let line = server.wait_for_log(|line| line["signal"] == "SIGHUP");
    assert_eq!(line["setting"], "--access-log", "{line}");
    assert_infers(&server).await;
    assert_eq!(metric(&server, "onnxd_log_lines_dropped_total", &[]).await, 0.0);
}
