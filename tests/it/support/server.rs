//! A real `onnxd` process on ports of its own.

use serde_json::Value;
use std::{
    cell::Cell,
    collections::HashMap,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

use super::client::Ports;

/// Time that anything that must happen may take, however slow the machine.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    /// Where the desired state is kept, unless an option says otherwise.
    _state: TempDir,
    log: Arc<Log>,
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    pub metrics: SocketAddr,
    pub admin: SocketAddr,
}

impl Server {
    /// Starts `onnxd serve` on a repository and waits until the first loads are over.
    pub fn start(repository: &Path) -> Self {
        Server::start_with(repository, &[])
    }

    /// The same with more options.
    pub fn start_with(repository: &Path, options: &[&str]) -> Self {
        Server::start_command(onnxd(), repository, options)
    }

    /// The same with a command whose environment has been prepared.
    pub fn start_command(command: Command, repository: &Path, options: &[&str]) -> Self {
        let server = Server::start_up(command, repository, options);
        server.log.wait_for(is_started);
        server
    }

    /// The same, and does not wait until the first loads are over.
    pub fn starting(repository: &Path, options: &[&str]) -> Self {
        Server::start_up(onnxd(), repository, options)
    }

    fn start_up(mut command: Command, repository: &Path, options: &[&str]) -> Self {
        command.arg("serve").arg(repository).args(["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]);
        command.args(["--metrics", "127.0.0.1:0", "--log-format", "json"]);
        if !options.contains(&"--admin") {
            command.args(["--admin", "127.0.0.1:0"]);
        }
        if !options.contains(&"--poll-interval") {
            command.args(["--poll-interval", "50ms"]);
        }
        let state = TempDir::new().unwrap();
        if !options.contains(&"--state-dir") {
            command.arg("--state-dir").arg(state.path());
        }
        command.args(options);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Log::follow(child.stderr.take().unwrap());
        let mut addresses = HashMap::new();
        for protocol in ["http", "grpc", "metrics", "admin"] {
            let line = log.wait_for(|line| line["message"] == "listening" && line["protocol"] == protocol);
            addresses.insert(protocol, line["address"].as_str().unwrap().parse().unwrap());
        }
        let at = |protocol| addresses[protocol];
        Server {
            child,
            _state: state,
            log,
            http: at("http"),
            grpc: at("grpc"),
            metrics: at("metrics"),
            admin: at("admin"),
        }
    }

    /// Waits for a log line.
    pub fn wait_for_log(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        self.log.wait_for(wanted)
    }

    /// The log lines so far.
    pub fn log(&self) -> Vec<Value> {
        self.log.state.lock().unwrap().lines.clone()
    }

    /// Waits until so many log lines fit. Fails if there are more. A line is written later than what it is about.
    pub fn wait_for_logs(&self, count: usize, wanted: impl Fn(&Value) -> bool) {
        let found = Cell::new(0);
        self.wait_for_log(|line| {
            found.set(found.get() + usize::from(wanted(line)));
            found.get() == count
        });
        assert_eq!(self.count_log(wanted), count, "{}", self.log);
    }

    /// Number of log lines that fit so far.
    pub fn count_log(&self, wanted: impl Fn(&Value) -> bool) -> usize {
        self.log.state.lock().unwrap().lines.iter().filter(|line| wanted(line)).count()
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, such as "TERM".
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// The most memory that the process has had so far, in bytes.
    pub fn peak_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().trim().parse::<usize>().unwrap() * 1024
    }

    /// The memory that the process has now, in bytes.
    pub fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().trim().parse::<usize>().unwrap() * 1024
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self) -> ExitStatus {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(since.elapsed() < WAIT_TIMEOUT, "the server does not end; its log:\n{}", self.log);
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Ports for Server {
    fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    fn metrics(&self) -> SocketAddr {
        self.metrics
    }

    fn admin(&self) -> SocketAddr {
        self.admin
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.child.try_wait().ok().flatten();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            if let Some(status) = ended {
                eprintln!("the server had ended: {status}");
            }
            eprintln!("the server's log:\n{}", self.log);
        }
    }
}

/// Recognises the log line that follows the first loads: the server is ready, or says why not.
pub fn is_started(line: &Value) -> bool {
    line["target"] == "onnxd::server" && ["ready", "not ready"].contains(&field(line, "message"))
}

/// Text of a log line's field; empty where the line has none.
pub fn field<'a>(line: &'a Value, name: &str) -> &'a str {
    line[name].as_str().unwrap_or_default()
}

/// The command under test, with nothing of the caller's settings.
pub fn onnxd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onnxd"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ONNXD_") && name != "ONNXD_CACHE_DIR") {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// A log, read by a thread as it comes.
#[derive(Default)]
struct Log {
    state: Mutex<LogState>,
    more: Condvar,
}

#[derive(Default)]
struct LogState {
    lines: Vec<Value>,
    ended: bool,
}

impl Log {
    fn follow(stderr: ChildStderr) -> Arc<Self> {
        let log = Arc::new(Log::default());
        let writer = log.clone();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                writer.state.lock().unwrap().lines.push(line);
                writer.more.notify_all();
            }
            writer.state.lock().unwrap().ended = true;
            writer.more.notify_all();
        });
        log
    }

    fn wait_for(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut state = self.state.lock().unwrap();
        let mut read = 0;
        loop {
            if let Some(line) = state.lines[read..].iter().find(|line| wanted(line)) {
                return line.clone();
            }
            read = state.lines.len();
            let (now, timeout) = self.more.wait_timeout(state, WAIT_TIMEOUT).unwrap();
            state = now;
            if timeout.timed_out() || state.ended && state.lines.len() == read {
                drop(state);
                panic!("the log does not say what it should:\n{self}");
            }
        }
    }
}

impl std::fmt::Display for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.state.lock().unwrap().lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let since = Instant::now();
    while !holds().await {
        assert!(since.elapsed() < WAIT_TIMEOUT, "it does not come true: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
