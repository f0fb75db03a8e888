//! Files for packages, images and shells that the command makes: manual pages, completions, the health check.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    net::TcpListener,
    process::{Command, Stdio},
};
use tempfile::TempDir;

use crate::{
    cli::{ended, text},
    support::{
        client::get,
        onnx,
        server::{Server, eventually, onnxd},
    },
};

/// The commands that the help lists before the options, but `help`.
fn commands() -> BTreeSet<String> {
    let output = ended(onnxd().arg("--help"));
    let listed = text(&output.stdout).split("\nOptions:").next().unwrap();
    // A line that is indented further goes on with a description.
    let name = |line: &str| {
        let line = line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?;
        line.split_whitespace().next().map(str::to_owned)
    };
    let names: BTreeSet<String> = listed.lines().filter_map(name).filter(|name| name != "help").collect();
    assert!(names.contains("serve") && names.contains("health"), "{names:?}");
    names
}

fn printed(arguments: &[&str]) -> String {
    let output = ended(onnxd().args(arguments));
    assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    text(&output.stdout).to_owned()
}

#[test]
fn completions_of_every_shell_cover_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = printed(&["completions", shell]);
        for command in commands() {
            assert!(script.contains(&command), "{shell} does not know {command}");
        }
        assert!(script.contains("drain-timeout"), "{shell} does not know the options of serve");
    }
}

#[test]
fn bash_completes_with_the_printed_script() {
    let script = printed(&["completions", "bash"]);
    let complete = |words: &str, current: &str| {
        let ask = format!(
            "{script}\nCOMP_WORDS=({words})\nCOMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n_onnxd onnxd '{current}' ''\n\
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let mut bash = Command::new("bash").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        bash.stdin.take().unwrap().write_all(ask.as_bytes()).unwrap();
        let output = bash.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        text(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete("onnxd ser", "ser"), ["serve"]);
    assert_eq!(complete("onnxd serve --drain-t", "--drain-t"), ["--drain-timeout"]);
}

#[test]
fn manual_pages_cover_every_command() {
    let page = printed(&["man"]);
    assert!(page.contains(".TH onnxd 1") && page.contains("ONNX"), "{page}");
    let folder = TempDir::new().unwrap();
    let pages = folder.path().join("share/man1");
    assert_eq!(printed(&["man", pages.to_str().unwrap()]), "");
    for command in commands() {
        let page = fs::read_to_string(pages.join(format!("onnxd-{command}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
    }
    assert_eq!(fs::read_to_string(pages.join("onnxd.1")).unwrap(), page);
    let serve = fs::read_to_string(pages.join("onnxd-serve.1")).unwrap();
    assert!(serve.contains("ONNXD_DRAIN_TIMEOUT"), "{serve}");

    // A file stands where the folder would be.
    let output = ended(onnxd().arg("man").arg(pages.join("onnxd.1")));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("onnxd: ") && text(&output.stderr).contains("onnxd.1"), "{output:?}");
}

/// The exit code and the message on stderr.
fn health(url: &str) -> (Option<i32>, String) {
    let output = ended(onnxd().arg("health").env("ONNXD_URL", url));
    (output.status.code(), text(&output.stderr).to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn health_command_exits_by_readiness() {
    let repository = TempDir::new().unwrap();
    onnx::slow().save(&repository.path().join("slow/1/model.onnx"));
    let server = Server::start_with(repository.path(), &["--drain-delay", "1h"]);
    let url = format!("http://{}", server.http);
    assert_eq!(health(&url), (Some(0), String::new()));

    server.signal("TERM");
    eventually("readiness is off", async || get(server.http, "/v2/health/ready").await.status == 503).await;
    let (code, said) = health(&url);
    assert_eq!(code, Some(1));
    assert!(said.starts_with("onnxd: ") && said.contains("shutting down") && said.contains("503"), "{said}");
}

#[test]
fn health_command_fails_without_a_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (code, said) = health(&format!("http://{address}"));
    assert_eq!(code, Some(1));
    assert!(said.starts_with("onnxd: can't connect to http://"), "{said}");

    // One that takes connections and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let output = ended(onnxd().args(["health", "--timeout", "50ms", "--url", &url]));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no answer within 50ms"), "{output:?}");
}
