//! The command line and where settings come from.

use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

use crate::support::{
    client::get,
    onnx,
    server::{WAIT_TIMEOUT, eventually, is_started, onnxd},
};

/// Runs a command that must end by itself.
pub fn ended(command: &mut Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = child.id().to_string();
    // Read while it runs: a pipe holds only so much.
    let (done, output) = mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    let output = output.recv_timeout(WAIT_TIMEOUT).or_else(|_| {
        let _ = Command::new("kill").args(["-KILL", &id]).status();
        output.recv()
    });
    output.unwrap().unwrap()
}

/// The exit code of a process that must end by itself; one that does not is killed and has none.
fn wait(child: &mut Child) -> Option<i32> {
    let since = Instant::now();
    while child.try_wait().unwrap().is_none() && since.elapsed() < WAIT_TIMEOUT {
        thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    child.wait().unwrap().code()
}

pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn help_and_version_print_to_stdout() {
    let version = format!("onnxd {}\n", env!("CARGO_PKG_VERSION"));
    for (line, says) in [("--help", "Usage: onnxd"), ("help serve", "Usage: onnxd serve"), ("--version", &version)] {
        let output = ended(onnxd().args(line.split_whitespace()));
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success() && err.is_empty() && out.contains(says), "{line}: {output:?}");
    }

    // Every setting with its variable.
    let output = ended(onnxd().args(["serve", "--help"]));
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && err.is_empty(), "{output:?}");
    for setting in [
        "config",
        "http",
        "grpc",
        "metrics",
        "admin",
        "state-dir",
        "model-control",
        "ready-marker",
        "model-memory",
        "model-memory-full",
        "poll-interval",
        "drain-delay",
        "drain-timeout",
        "log-format",
        "log-level",
    ] {
        let variable = format!("ONNXD_{}=", setting.to_uppercase().replace('-', "_"));
        assert!(out.contains(&format!("--{setting} <")), "--{setting} is not in\n{out}");
        assert!(out.contains(&variable), "{variable} is not in\n{out}");
    }
}

/// Command lines with a mistake, their exit code (2 where the command line itself is wrong, 1 where something else is), and
/// what must be said about it. `$DIR` is a folder that holds a repository and a file; something listens at `$OCCUPIED`.
#[rustfmt::skip]
const MISTAKES: &[(&str, i32, &[&str])] = &[
    ("", 2, &["Usage: onnxd", "serve"]),
    ("server", 2, &["'server'", "'serve'"]),
    ("config --model", 2, &["--defaults"]),
    ("serve", 2, &["<DIR>"]),
    ("serve $DIR/repository --htpp off", 2, &["'--htpp'", "'--http'"]),
    ("serve $DIR/repository --http 8000", 2, &["--http", "'8000' is not an address", "0.0.0.0:8000"]),
    ("serve $DIR/repository --grpc localhost:http", 2, &["--grpc", "'localhost:http' is not an address"]),
    ("serve $DIR/repository --poll-interval often", 2, &["--poll-interval", "'often'"]),
    ("serve $DIR/repository --model-control pull", 2, &["--model-control", "'pull'", "none, poll or explicit"]),
    ("serve $DIR/repository --ready-marker a/b", 2, &["--ready-marker", "without a folder"]),
    ("serve $DIR/repository --log-format xml", 2, &["--log-format", "'xml'", "text", "json"]),
    ("ONNXD_METRICS=9 serve $DIR/repository", 2, &["onnxd: ONNXD_METRICS: ", "'9' is not an address"]),
    ("serve $DIR/repository --poll-interval 0s", 2, &["--poll-interval", "longer than 0s"]),
    ("serve $DIR/repository --busy-poll 2ms", 2, &["--busy-poll", "at most 1ms"]),
    ("serve $DIR/repository --log-level onnxd=loud", 2, &["--log-level", "'onnxd=loud'"]),
    ("serve $DIR/none", 1, &["model repository", "$DIR/none", "No such file"]),
    ("serve $DIR/file", 1, &["model repository", "$DIR/file", "Not a directory"]),
    ("serve $DIR/repository --http $OCCUPIED", 1, &["http", "$OCCUPIED", "in use", "--http HOST:PORT"]),
    ("serve $DIR/repository --http off --grpc $OCCUPIED", 1, &["grpc", "$OCCUPIED", "in use", "--grpc HOST:PORT"]),
    // An address that is reserved for documentation, so no machine has it.
    ("serve $DIR/repository --http 192.0.2.1:0", 1, &["http", "192.0.2.1:0", "--http HOST:PORT"]),
    ("ORT_DYLIB_PATH=$DIR/none serve $DIR/repository", 1, &["ORT_DYLIB_PATH", "$DIR/none", "not a file"]),
    ("ORT_DYLIB_PATH=$DIR/file serve $DIR/repository", 1, &["$DIR/file", "can't be used as ONNX Runtime"]),
    ("serve $DIR/repository --config $DIR/none", 1, &["$DIR/none", "can't be read", "No such file"]),
    ("ONNXD_CONFIG=$DIR/none serve $DIR/repository", 1, &["$DIR/none", "can't be read"]),
];

/// Each mistake ends the command with one message that says what to do, on stderr.
#[test]
fn mistakes_end_the_command_with_one_message() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("repository")).unwrap();
    fs::write(folder.path().join("file"), "neither a library nor a folder").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let occupied = listener.local_addr().unwrap().to_string();
    let filled = |text: &str| {
        let text = text.replace("$DIR", folder.path().to_str().unwrap());
        text.replace("$OCCUPIED", &occupied)
    };
    let mut complaints = Vec::new();
    for (line, code, says) in MISTAKES {
        let mut command = onnxd();
        command.env("ONNXD_LOG_LEVEL", "warn");
        for word in line.split_whitespace() {
            match word.split_once('=') {
                Some((name, value)) if name == name.to_uppercase() => command.env(name, filled(value)),
                _ => command.arg(filled(word)),
            };
        }
        let output = ended(&mut command);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        let unsaid: Vec<_> = says.iter().filter(|part| !err.contains(&filled(part))).collect();
        // Usage errors are reported by the parser of the command line, in its own form.
        let messages = err.lines().filter(|line| line.starts_with("onnxd: ")).count();
        let is_one_message =
            unsaid.is_empty() && out.is_empty() && (messages == 1 || *code == 2) && !err.contains("panicked");
        if output.status.code() != Some(*code) || !is_one_message {
            complaints.push(format!("{line}: {}, without {unsaid:?}\n{out}{err}", output.status));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// A server with nothing but the given settings; killed when dropped.
struct Running {
    child: Child,
    addresses: BTreeMap<String, SocketAddr>,
}

impl Running {
    /// Waits until it is ready, and reads its log no further, which must be in JSON.
    fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = Vec::new();
        let mut running = Running { child, addresses: BTreeMap::new() };
        for line in lines {
            let json: Value = serde_json::from_str(&line).unwrap_or_default();
            if json["message"] == "listening" {
                let address = json["address"].as_str().unwrap().parse().unwrap();
                running.addresses.insert(json["protocol"].as_str().unwrap().into(), address);
            }
            if is_started(&json) {
                return running;
            }
            said.push(line);
        }
        panic!("it ended before it was ready:\n{}", said.join("\n"));
    }

    fn protocols(&self) -> Vec<&str> {
        self.addresses.keys().map(String::as_str).collect()
    }
}

/// Whoever read the log has ended: that is no reason to stop following the repository, nor to end in disorder.
#[tokio::test(flavor = "multi_thread")]
async fn server_outlives_the_readers_of_its_log() {
    let repository = TempDir::new().unwrap();
    onnx::add(1.0).save(&repository.path().join("add.onnx"));
    let mut command = serve(repository.path());
    command.args(["--http", "127.0.0.1:0", "--grpc", "off", "--metrics", "off", "--poll-interval", "50ms"]);
    // Its log is not read any more from here on.
    let mut server = Running::start(&mut command);
    for number in [2, 3] {
        // Each load is logged.
        onnx::add(number as f32).save(&repository.path().join(format!("add{number}.onnx")));
        let path = format!("/v2/models/add{number}/ready");
        eventually("the new model is served", async || get(server.addresses["http"], &path).await.status == 200).await;
    }
    let terminated = Command::new("kill").arg(server.child.id().to_string()).status().unwrap();
    assert!(terminated.success());
    assert_eq!(wait(&mut server.child), Some(0));
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(repository: &Path) -> Command {
    let mut command = onnxd();
    command.arg("serve").arg(repository).env("ONNXD_LOG_FORMAT", "json").env("ONNXD_ADMIN", "off");
    command.env("XDG_STATE_HOME", std::env::temp_dir());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn setting_precedence_is_option_environment_file() {
    let (folder, repository) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    onnx::add(1.0).save(&repository.path().join("add.onnx"));
    let file = folder.path().join("onnxd.toml");
    let all = "http = \"127.0.0.1:0\"\ngrpc = \"127.0.0.1:0\"\nmetrics = \"127.0.0.1:0\"\n";
    let rest = "admin = \"127.0.0.1:0\"\npoll_interval = \"1m\"\ndrain_delay = \"0s\"\ndrain_timeout = \"5s\"\nlog_format = \"json\"\nlog_level = \"info\"\n";
    let state = folder.path().join("state");
    fs::write(&file, format!("{all}{rest}state_dir = {state:?}\n")).unwrap();

    // The file alone, which says it all.
    let server = Running::start(onnxd().arg("serve").arg(repository.path()).arg("--config").arg(&file));
    assert_eq!(server.protocols(), ["admin", "grpc", "http", "metrics"]);
    assert_eq!(get(server.addresses["http"], "/v2/models/add").await.status, 200);
    assert_eq!(get(server.addresses["metrics"], "/metrics").await.status, 200);
    drop(server);

    // The environment over it, and options over both.
    let server = Running::start(serve(repository.path()).env("ONNXD_CONFIG", &file).env("ONNXD_HTTP", "off"));
    assert_eq!(server.protocols(), ["grpc", "metrics"]);
    drop(server);
    let mut command = serve(repository.path());
    command.env("ONNXD_CONFIG", &file).env("ONNXD_HTTP", "off").env("ONNXD_METRICS", "off");
    let server = Running::start(command.args(["--http", "localhost:0", "--grpc", "off"]));
    assert_eq!(server.protocols(), ["http"]);
    drop(server);

    // Each can be off, and so can all.
    let mut command = serve(repository.path());
    let server = Running::start(command.args(["--http", "off", "--grpc", "off", "--metrics", "off"]));
    assert!(server.protocols().is_empty());
}
