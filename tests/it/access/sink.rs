//! Where the access log goes, and what becomes of it there: no request minds.

use serde_json::Value;
use std::{
    fs::{self, File},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::Command,
};

use super::{Way, ask, lines, log_file, repository, start};
use crate::support::{
    client::metric,
    h1::Connection,
    server::{Server, eventually, field, onnxd},
};

/// Message of a server that can't start, with exit code 1.
fn refused(repository: &Path, log: &Path) -> String {
    let mut command = onnxd();
    command.arg("serve").arg(repository).args([
        "--http",
        "127.0.0.1:0",
        "--grpc",
        "off",
        "--metrics",
        "off",
        "--admin",
        "off",
    ]);
    let output = command.arg("--access-log").arg(log).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn unopenable_log_ends_the_start() {
    let repository = repository();
    let (folder, path) = log_file();
    for (path, why) in
        [(folder.path(), "Is a directory"), (&folder.path().join("no/such"), "No such file or directory")]
    {
        let reported = refused(repository.path(), path);
        assert!(reported.contains(&format!("onnxd: --access-log {}: {why}", path.display())), "{reported}");
    }
    pipe(&path);
    let reported = refused(repository.path(), &path);
    assert!(
        reported.contains(&format!("--access-log {}: it is a pipe that nobody reads", path.display())),
        "{reported}"
    );
}

/// Sends so many requests to `add` and reads their answers.
fn flood(server: &Server, requests: usize) {
    let body = super::body(1, &"long ".repeat(50)).to_string();
    let id = "x".repeat(128);
    let request = format!(
        "POST /v2/models/add/infer HTTP/1.1\r\nHost: x\r\nX-Request-Id: {id}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = Connection::open(server.http).unwrap();
    for _ in 0..requests / 50 {
        connection.send(&request.repeat(50).into_bytes()).unwrap();
        (0..50).for_each(|_| assert_eq!(connection.reply().unwrap().status, 200));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_log_reader_holds_up_nothing() {
    const REQUESTS: usize = 12_000;
    let repository = repository();
    let (_folder, path) = log_file();
    pipe(&path);
    let reader = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    let mut server = start(&repository, &path, &[]);
    flood(&server, REQUESTS);
    let dropped = metric(&server, "onnxd_access_log_dropped_total", &["reason=\"full\""]).await;
    assert!(dropped > 0.0 && dropped < REQUESTS as f64, "{dropped}");
    // Nor the end.
    server.signal("TERM");
    server.wait_for_log(|line| field(line, "message").contains("last lines of the access log"));
    assert!(server.wait().success());
    drop(reader);
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_drops_lines_and_is_logged_once() {
    let repository = repository();
    let mut server = start(&repository, Path::new("/dev/full"), &[]);
    let lost = async || metric(&server, "onnxd_access_log_dropped_total", &["reason=\"write\""]).await;
    for requests in [50.0, 100.0] {
        flood(&server, 50);
        eventually("the lines are lost", async || lost().await == requests).await;
    }
    let reported = |line: &Value| line["path"] == "/dev/full" && field(line, "error").starts_with("No space left");
    server.wait_for_logs(1, reported);
    server.signal("TERM");
    assert!(server.wait().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn moved_log_file_is_reopened() {
    let repository = repository();
    let (folder, path) = log_file();
    let mut server = start(&repository, &path, &[]);
    let request = async |id: &str| ask(&server, Way::Plain, "add", 1, &[("x-request-id", id.as_bytes())]).await;
    request("1").await;
    lines(&path, 1).await;
    // By itself, with the next line.
    fs::rename(&path, folder.path().join("first")).unwrap();
    request("2").await;
    assert_eq!(lines(&path, 1).await[0]["request_id"], "2");
    // At once on a signal, as rotating programs send it.
    fs::rename(&path, folder.path().join("second")).unwrap();
    server.signal("HUP");
    eventually("the file is there", async || path.exists()).await;
    request("3").await;
    assert_eq!(lines(&path, 1).await[0]["request_id"], "3");
    fs::remove_file(&path).unwrap();
    request("4").await;
    assert_eq!(lines(&path, 1).await[0]["request_id"], "4");
    // A server that starts again goes on where it was.
    request("5").await;
    server.signal("TERM");
    assert!(server.wait().success());
    assert_eq!(lines(&path, 2).await[1]["request_id"], "5", "the last line is written before the end");
    let server = start(&repository, &path, &[]);
    ask(&server, Way::Grpc, "add", 1, &[("x-request-id", b"6")]).await;
    assert_eq!(lines(&path, 3).await[2]["request_id"], "6");
    for (file, id) in [("first", "1"), ("second", "2")] {
        assert_eq!(lines(&folder.path().join(file), 1).await[0]["request_id"], id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn access_log_writes_to_stdout() {
    let repository = repository();
    let (_folder, path) = log_file();
    let mut command = onnxd();
    command.stdout(File::create(&path).unwrap()).env("ONNXD_ACCESS_LOG", "-");
    let server = Server::start_command(command, repository.path(), &[]);
    ask(&server, Way::Plain, "add", 1, &[("x-request-id", b"mine")]).await;
    assert_eq!(lines(&path, 1).await[0]["request_id"], "mine");
}
