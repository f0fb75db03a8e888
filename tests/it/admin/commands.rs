//! The commands: what they print, for people and for scripts, and what they end with.

use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};
use tempfile::TempDir;

use super::{repository, save_broken, save_version};
use crate::{
    cli::ended,
    support::server::{Server, onnxd},
};

fn command(server: &Server, line: &str) -> Command {
    let mut command = onnxd();
    command.args(line.split_whitespace()).env("ONNXD_SERVER", server.admin.to_string()).env("USER", "ann");
    command
}

/// Exit code, stdout and stderr.
pub(super) fn run(server: &Server, line: &str) -> (i32, String, String) {
    let output = ended(&mut command(server, line));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Output of a command that must succeed.
pub(super) fn printed(server: &Server, line: &str) -> String {
    let (code, out, err) = run(server, line);
    assert_eq!((code, err.as_str()), (0, ""), "{line}: {out}");
    out
}

/// Lines of words, so that widths and times don't matter.
fn words(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rollout_works_from_the_shell() {
    let repository = repository();
    let server = Server::start(repository.path());
    assert_eq!(
        printed(&server, "traffic show add"),
        "\
MODEL  VERSION  STATE   WEIGHT  SHARE  ALIASES  SOURCE
add          1  READY        -    0 %  -        default
add          2  READY        -    0 %  -        default
add          3  READY        -  100 %  -        default
add          4  FAILED       -    0 %  -        default
"
    );
    assert_eq!(
        printed(&server, "traffic set add 2=95 3=5 --reason try"),
        "\
add revision 1: set weights 2=95 3=5

VERSION  STATE   BEFORE  WEIGHT  SHARE  ALIASES
      1  READY        -       0    0 %  -
      2  READY        -      95   95 %  -
      3  READY        -       5    5 %  -
      4  FAILED       -       0    0 %  -
"
    );
    let shifted = printed(&server, "traffic shift add 2 3 20 --actor bob --expect-revision 1");
    assert!(shifted.starts_with("add revision 2: shift 20 points from version 2 to 3\n"), "{shifted}");
    assert_eq!(words(&shifted)[4], ["2", "READY", "95", "75", "75", "%", "-"]);
    assert!(printed(&server, "alias set add canary 3").starts_with("add revision 3: set alias canary to version 3\n"));
    assert_eq!(printed(&server, "alias show"), "MODEL  ALIAS   VERSION  STATE\nadd    canary        3  READY\n");
    let explained = printed(&server, "explain add --key user-7");
    assert!(explained.contains(", sticky: the routing key 'user-7' falls to it by the weights\n"), "{explained}");
    assert!(explained.contains("\nVERSION  SHARE\n      1    0 %\n      2   75 %\n      3   25 %\n"), "{explained}");
    assert!(printed(&server, "explain add --alias canary").starts_with("add: version 3, alias: "));
    assert!(printed(&server, "explain add --version 1").starts_with("add: version 1, pinned: "));
    assert!(printed(&server, "explain add").starts_with("add: any version with a share, weighted: chance decides"));
    assert!(printed(&server, "alias drop add canary").starts_with("add revision 4: drop alias canary\n"));
    assert_eq!(printed(&server, "alias show add"), "no aliases\n");
    assert!(printed(&server, "promote add 3").starts_with("add revision 5: promote version 3\n"));
    assert!(printed(&server, "rollback add").starts_with("add revision 6: rollback\n"));

    let history = printed(&server, "history add");
    let lines = words(&history);
    assert_eq!(lines[0], ["REVISION", "TIME", "ACTOR", "CHANGE", "WEIGHTS", "REASON"]);
    assert_eq!(lines.len(), 7, "{history}");
    assert!(lines[1][2].starts_with("ann@") && lines[1].ends_with(&["2=95", "3=5", "try"]), "{history}");
    assert_eq!(lines[2][2], "bob");

    // A table of everything, and below what is wrong.
    let models = printed(&server, "models");
    let headings = [
        "MODEL",
        "VERSION",
        "STATE",
        "WEIGHT",
        "SHARE",
        "ALIASES",
        "SOURCE",
        "AGE",
        "GEN",
        "DEVICE",
        "ISOLATION",
        "MEMORY",
        "RUNS",
    ];
    assert_eq!(words(&models)[0], headings);
    assert!(models.contains("\n\nadd version 4: "), "{models}");
    assert!(!models.contains('\x1b'), "no colours where it is no terminal");
    let columns = |text: &str| {
        text.lines().map(|line| line.split_whitespace().take(4).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(columns(&printed(&server, "models add")), columns(&models));
}

#[tokio::test(flavor = "multi_thread")]
async fn load_command_waits_and_reports_the_result() {
    let repository = repository();
    let server = Server::start_with(repository.path(), &["--model-control", "explicit"]);
    let loaded = printed(&server, "load add 2");
    assert_eq!(words(&loaded)[2][..3], ["add", "2", "READY"]);
    let (code, out, err) = run(&server, "load add 4");
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.starts_with("onnxd: model 'add': version 4 failed to be loaded: "), "{err}");
    let (code, out, _) = run(&server, "load add 3 --no-wait");
    assert_eq!(code, 0);
    assert!(out.starts_with("add revision 3: load version 3\n"), "{out}");
    printed(&server, "load add 3");

    // A reload that fails is a failure, though the version goes on serving.
    let reloaded = printed(&server, "reload add 2");
    assert!(words(&reloaded)[2][..3] == ["add", "2", "READY"], "{reloaded}");
    save_broken(repository.path(), 2);
    let (code, out, err) = run(&server, "reload add 2 --timeout 1m");
    assert_eq!(code, 1);
    assert!(out.contains("READY") && err.contains("version 2 was not loaded anew"), "{out}{err}");
    save_version(repository.path(), 2);
    let reloaded = printed(&server, "reload add 2");
    assert!(!reloaded.contains("add version 2:"), "{reloaded}");

    let (code, out, _) = run(&server, "unload add 3 --force");
    assert_eq!(code, 0);
    assert!(out.starts_with("add revision 8: unload version 3 by force\n"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_option_prints_the_answer_of_the_api() {
    let repository = repository();
    let server = Server::start(repository.path());
    for (line, has) in [
        ("models --json", "/models/0/versions/3/state"),
        ("models add --json", "/versions/3/state"),
        ("traffic show add --json", "/traffic/weights"),
        ("alias show --json", "/revision"),
        ("traffic set add 2=1 --json", "/record/after/weights/2"),
        ("alias set add canary 3 --json", "/model/traffic/aliases/canary"),
        ("alias drop add canary --json", "/record/before/aliases/canary"),
        ("promote add 3 --json", "/record/kind"),
        ("rollback add --json", "/record/kind"),
        ("rollback add --to 1 --json", "/record/kind"),
        ("abort add --json", "/record/kind"),
        ("traffic reset add --json", "/model/source"),
        ("history add --json", "/records/6/revision"),
        ("explain add --key a --json", "/shares/0/share"),
        ("unload add 1 --json", "/revision"),
        ("load add 1 --json", "/versions/0/generation"),
        ("reload add 1 --json", "/versions/0/generation"),
        ("load add 1 --no-wait --json", "/record/change"),
    ] {
        let (code, out, _) = run(&server, line);
        assert_eq!(code, 0, "{line}");
        assert_eq!(out.lines().count(), 1, "{line}: {out}");
        let answer: Value = serde_json::from_str(&out).unwrap();
        assert!(answer.pointer(has).is_some_and(|value| !value.is_null()), "{line}: {out}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn command_failures_report_the_cause() {
    let repository = repository();
    let server = Server::start(repository.path());
    printed(&server, "traffic set add 2=1 --reason first");
    for (line, expected, says) in [
        ("models nobody", 1, &["'nobody'", "HTTP 404"][..]),
        ("promote add 4", 1, &["'add'", "version 4", "HTTP 409"]),
        ("promote add 3 --expect-revision 0", 1, &["'add'", "revision 1: set weights 2=1", "first", "HTTP 412"]),
        ("traffic shift add 2 3 101", 1, &["101"]),
        ("traffic set add 2=1 2=2", 1, &["version 2", "two weights"]),
        ("traffic set add", 2, &["VERSION=WEIGHT"]),
        ("traffic set add 2:5", 2, &["'2:5'", "3=5"]),
        ("traffic set add 2=-5", 2, &["'2=-5'"]),
        ("traffic set add 2=NaN", 2, &["'2=NaN'"]),
        ("traffic", 2, &["Usage: onnxd traffic"]),
        ("traffic move add", 2, &["'move'"]),
        ("promote add", 2, &["<VERSION>"]),
        ("promote add three", 1, &["'add'", "no alias 'three'", "HTTP 404"]),
        ("promote add 0", 2, &["'0'", "an integer > 0, or an alias"]),
        ("explain add --version 1 --alias canary", 2, &["--alias"]),
        ("load add --timeout soon", 2, &["'soon'"]),
        ("load add --timeout 2h", 1, &["1h"]),
        ("models --server https://localhost", 2, &["https is not supported"]),
        ("models --token-file /nowhere", 1, &["--token-file /nowhere", "No such file"]),
        ("models --server 127.0.0.1:1", 1, &["127.0.0.1:1", "onnxd serve DIR", "--server ADDR", "ONNXD_SERVER"]),
    ] {
        let (code, _, err) = run(&server, line);
        assert_eq!(code, expected, "{line}: {err}");
        says.iter().for_each(|part| assert!(err.contains(part), "{line}: {err}"));
    }
    // Not an admin port.
    let output = ended(command(&server, "models").env("ONNXD_SERVER", server.http.to_string()));
    assert_eq!(output.status.code(), Some(1));
    // A variable that is wrong is named; an empty one is none.
    let output = ended(command(&server, "alias show").env("ONNXD_SERVER", "ftp://x"));
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("onnxd: ONNXD_SERVER: "));
    assert_eq!(ended(command(&server, "alias show").env("ONNXD_TOKEN_FILE", "")).status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_send_tokens_and_print_warnings() {
    let (repository, folder) = (repository(), TempDir::new().unwrap());
    let file = folder.path().join("tokens");
    fs::write(&file, "bob:a-token\n").unwrap();
    let server = Server::start_with(repository.path(), &["--admin-token-file", file.to_str().unwrap()]);
    let (code, _, err) = run(&server, "models");
    assert_eq!(code, 1);
    assert!(err.contains("a token is needed") && err.contains("HTTP 401"), "{err}");
    let output = ended(command(&server, "traffic set add 3=1").env("ONNXD_TOKEN_FILE", &file));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let (code, out, err) = run(&server, &format!("unload add 3 --force --token-file {}", file.display()));
    assert_eq!(code, 0, "{err}");
    assert!(err.starts_with("onnxd: warning: "), "{out}{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_command_prints_a_line_for_each_event() {
    let repository = repository();
    let mut server = Server::start(repository.path());
    for options in ["", " --json"] {
        let mut child = command(&server, &format!("watch add{options}")).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let current = if options.is_empty() { "that is how it is now" } else { r#""kind":"current""# };
        assert!(lines.any(|line| line.contains(current)));
        printed(&server, "traffic set add 2=9 3=1 --reason so");
        let event = lines.find(|line| line.contains("traffic")).unwrap();
        if options.is_empty() {
            assert!(event.contains("  add traffic weights 2=9 3=1 by ann@") && event.ends_with(": so"), "{event}");
        } else {
            let event: Value = serde_json::from_str(&event).unwrap();
            assert_eq!(event["traffic"]["traffic"]["weights"]["2"], 9.0);
        }
        printed(&server, "traffic set add 2=1");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut child = command(&server, "watch").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("that is how it is now")));
    server.signal("TERM");
    assert!(server.wait().success());
    lines.for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn help_shows_groups_examples_and_variables() {
    let help = |line: &str| String::from_utf8(ended(onnxd().args(line.split_whitespace())).stdout).unwrap();
    let all = help("--help");
    for group in ["Serve models:", "Ask a server for predictions:", "See and change what a server does:"] {
        assert!(all.contains(group), "{all}");
    }
    for command in [
        "traffic set",
        "traffic shift",
        "traffic reset",
        "alias set",
        "promote",
        "rollback",
        "abort",
        "load",
        "unload",
        "watch",
        "explain",
    ] {
        let reported = help(&format!("{command} --help"));
        assert!(reported.contains("Example") && reported.contains(&format!("onnxd {command}")), "{reported}");
        assert!(reported.contains("ONNXD_SERVER") && reported.contains("ONNXD_TOKEN_FILE"), "{reported}");
    }
}
