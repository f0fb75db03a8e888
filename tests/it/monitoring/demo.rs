//! The walk through a canary that people are shown.

use std::{
    io::{BufRead, BufReader, Read},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::support::{prometheus::installed, server::eventually};

fn demo(arguments: &[&str]) -> Child {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/demo"));
    command.args(["--onnxd", env!("CARGO_BIN_EXE_onnxd")]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
}

/// The addresses that a text names.
fn addresses(text: &str) -> Vec<SocketAddr> {
    let urls = text.split("http://").skip(1);
    urls.filter_map(|url| url.split([',', '/', '\n']).next()?.parse().ok()).collect()
}

/// The lines of a paragraph, but for its first ones.
fn paragraph<'a>(text: &'a str, title: &str) -> Vec<&'a str> {
    let (_, rest) = text.split_once(title).unwrap_or_else(|| panic!("no '{title}' in\n{text}"));
    rest.split("\n\n").next().unwrap().lines().filter(|line| line.starts_with("    ")).collect()
}

async fn all_have_ended(addresses: &[SocketAddr]) {
    assert_eq!(addresses.len(), 3, "{addresses:?}");
    eventually("all that was started has ended", async || {
        addresses.iter().all(|address| TcpStream::connect(address).is_err())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn demonstration_counts_match_its_clients() {
    if !installed("demonstration_counts_match_its_clients") {
        return;
    }
    let output = demo(&["--seconds", "4"]).wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let counted = paragraph(&text, "What clients counted");
    let reported = paragraph(&text, "Requests that succeeded, by version");
    for version in ["version 2: ", "version 3: "] {
        let of = |lines: &[&str]| lines.iter().find_map(|line| line.trim().strip_prefix(version)?.parse::<f64>().ok());
        let (counted, reported) = (of(&counted).unwrap(), of(&reported).unwrap());
        assert!(
            counted > 0.0 && (reported / counted - 1.0).abs() < 0.02,
            "{version} {counted}, Prometheus {reported}\n{text}"
        );
    }
    assert_eq!(paragraph(&text, "Changes by admin calls"), ["    all: 4"], "{text}");
    assert_eq!(paragraph(&text, "Alerts that fire"), ["    none"], "{text}");
    all_have_ended(&addresses(&text)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupt_ends_the_demonstration_and_its_processes() {
    if !installed("interrupt_ends_the_demonstration_and_its_processes") {
        return;
    }
    let mut child = demo(&["--seconds", "600"]);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("clients ask") {
        assert!(out.read_line(&mut text).unwrap() > 0, "{text}");
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    out.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{text}");
    all_have_ended(&addresses(&text)).await;
}
